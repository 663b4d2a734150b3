"""How a running daemon ends: nothing lost while there is time, everybody told, and never too late (design 8).

Rules: a daemon of its own for each test, on a real port; signals as systemd sends them.
"""

from __future__ import annotations

import json
import signal

import pytest
import trio
from conftest import Start
from harness import plan_a
from processes import PATIENCE_S

SHUTDOWN = (1001, "server is shutting down")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_open_job_is_finished_and_delivered(number: int, start: Start) -> None:
    daemon = start()
    async with daemon.node() as node, daemon.client() as client:
        await client.speak()
        job = await node.job()
        daemon.signal(number)
        await daemon.event("draining", open_jobs=1, sessions=1)
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream("127.0.0.1", await daemon.port())
        await trio.sleep(0.3)
        assert daemon.running
        await node.answer(job)
        result = await client.result()
        assert result["text_asr"] == "heard 0"
        assert await client.closed() == SHUTDOWN
        assert await node.closed() == SHUTDOWN
    assert await daemon.ended() == 0
    assert daemon.complaints == []
    assert daemon.events[-1]["event"] == "stopped"


async def test_no_new_work_is_asked_for_while_it_ends(start: Start) -> None:
    """What a load balancer sees on the connection it has kept."""
    daemon = start()
    async with daemon.http() as http, daemon.node() as node, daemon.client() as client:
        status, body = await http.get("/ready")
        assert (status, json.loads(body)["ready"]) == (200, True)
        await client.speak()
        job = await node.job()
        daemon.signal(signal.SIGTERM)
        await daemon.event("draining")
        status, body = await http.get("/ready")
        assert (status, json.loads(body)["reasons"]) == (503, ["draining"])
        await node.answer(job)
        await client.result()


async def test_speech_that_was_not_cut_yet_is_translated(start: Start) -> None:
    daemon = start()
    async with daemon.working_node(), daemon.client() as client:
        await client.chunk(plan_a())
        await client.heartbeat()
        daemon.signal(signal.SIGTERM)
        assert (await client.result())["utterance_index"] == 0
        assert await client.closed() == SHUTDOWN
    assert await daemon.ended() == 0


async def test_job_of_a_silent_node_is_waited_for_only_so_long(start: Start) -> None:
    daemon = start(server={"drain_seconds": 0.5})
    async with daemon.node() as node, daemon.client() as client:
        await client.speak()
        await node.job()
        daemon.signal(signal.SIGTERM)
        assert await client.closed() == SHUTDOWN
        assert await node.closed() == SHUTDOWN
    assert await daemon.ended() == 0


async def test_everybody_is_told(start: Start) -> None:
    daemon = start()
    async with (
        daemon.client() as client,
        daemon.stranger() as stranger,
        daemon.node() as node,
        daemon.unregistered() as unregistered,
    ):
        daemon.signal(signal.SIGTERM)
        for peer in (client, stranger, node, unregistered):
            assert await peer.closed() == SHUTDOWN
    assert await daemon.ended() == 0


async def test_idle_connections_do_not_hold_it_up(start: Start) -> None:
    """It would have waited longer for the rest of a head, and for the next request."""
    daemon = start(server={"drain_seconds": 0, "hard_stop_seconds": 30, "peek_seconds": 60})
    port = await daemon.port()
    async with (
        await trio.open_tcp_stream("127.0.0.1", port),
        await trio.open_tcp_stream("127.0.0.1", port) as half,
        await trio.open_tcp_stream("127.0.0.1", port) as idle,
    ):
        await half.send_all(b"GET /ws/session HTTP/1.1\r\n")
        await idle.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        await idle.receive_some()
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert daemon.complaints == []


async def test_second_signal_cuts(start: Start) -> None:
    daemon = start()
    async with daemon.node() as node, daemon.client() as client:
        await client.speak()
        await node.job()
        daemon.signal(signal.SIGTERM)
        await daemon.event("draining")
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 130
        assert (await client.closed())[0] == 1006


UPGRADE = (
    b"GET /ws/session HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.mark.parametrize(("hard_stop_seconds", "code"), [(30, 0), (0.5, 130)])
async def test_peer_that_does_not_answer_the_close_is_cut(
    hard_stop_seconds: float, code: int, start: Start
) -> None:
    daemon = start(server={"drain_seconds": 0, "hard_stop_seconds": hard_stop_seconds})
    with trio.fail_after(PATIENCE_S):
        async with await trio.open_tcp_stream("127.0.0.1", await daemon.port()) as stream:
            await stream.send_all(UPGRADE)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")
            daemon.signal(signal.SIGTERM)
            assert await daemon.ended() == code
    assert ["hard stop" in line for line in daemon.complaints[:1]] == ([True] if code else [])
