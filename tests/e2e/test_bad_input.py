"""Everything wrong that a peer can do to a running daemon: a clear answer, and all others are served.

Rules: one daemon for the whole file, on a real port; each test ends by asking it for a translation; in the
end the daemon must stop in order and its log must show no crash.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from harness import QUEUE, Client, Json, base64, plan_a, registration
from patience import PATIENCE_S
from processes import DaemonProcess, Process, clean_environment
from trio_websocket import wrap_client_stream

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\xff" * 20_000,
        b"get / http/1.1\r\n\r\n",
        b"GET / HTTP/1.1 and more\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
    ],
    ids=lambda data: repr(data[:8]),
)
async def test_garbage_bytes(data: bytes, daemon: DaemonProcess) -> None:
    answer = await daemon.talk(data)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    await daemon.assert_serves()


async def test_http2_is_refused_by_name(daemon: DaemonProcess) -> None:
    answer = await daemon.talk(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 505 ")
    assert b"HTTP/1.1" in answer.partition(b"\r\n\r\n")[2]
    await daemon.assert_serves()


async def test_half_a_request_is_cut(daemon: DaemonProcess) -> None:
    halves = [b"", b"G", b"GET /health HT", b"GET /ws/session HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"]
    async with trio.open_nursery() as nursery:
        for half in halves:
            nursery.start_soon(daemon.talk, half)
    await daemon.assert_serves()


async def test_request_head_without_end(daemon: DaemonProcess) -> None:
    answer = await daemon.talk(b"GET / HTTP/1.1\r\n" + b"X-Filler: aaaaaaaaaaaaaaaaaaaa\r\n" * 1000)
    assert answer.startswith(b"HTTP/1.1 431 ")
    await daemon.assert_serves()


@pytest.mark.parametrize("path", ["/ws/session", "/ws/node"])
async def test_upgrade_that_is_none(path: str, daemon: DaemonProcess) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    assert (await daemon.talk(head.encode())).startswith(b"HTTP/1.1 400 ")
    assert (await daemon.get(path))[0] == 426
    await daemon.assert_serves()


async def test_paths_that_do_not_exist(daemon: DaemonProcess) -> None:
    status, body = await daemon.get("/nothing/here")
    assert status == 404
    assert '"not_found"' in body
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    assert (await daemon.get("/elsewhere", **upgrade, **key))[0] == 404
    assert (await daemon.get("/ws/elsewhere", **upgrade, **key))[0] == 426
    await daemon.assert_serves()


async def test_hundreds_of_bad_connections_at_once(daemon: DaemonProcess) -> None:
    port = await daemon.port()

    async def pester(data: bytes) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(data)
            await trio.sleep(0.2)

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(pester, (b"\x00", b"GET /ws/node HTTP/1.1\r\n", b"POST ")[number % 3])
        await daemon.assert_serves()


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        ("{", "JSON"),
        ('{"type": "nonsense",', "JSON"),
        ("[" * 100_000, "JSON"),
        ({"type": "nonsense"}, "nonsense"),
        ({"type": "audio_chunk", "is_final": True, "seq": 1}, "session_id"),
        ({"type": "audio_chunk", "session_id": "s", "is_final": True, "seq": "first"}, "seq"),
        ({"type": "audio_chunk", "session_id": "s", "is_final": True, "seq": -5}, "seq"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_message_that_cannot_be_used(frame: Any, named: str, daemon: DaemonProcess) -> None:
    async with daemon.client() as client:
        await client.say(frame)
        error = await client.until("error")
        assert error["code"] == "INVALID_MESSAGE"
        assert named in error["message"]
        await client.heartbeat()
    await daemon.assert_serves()


async def test_oversized_messages(daemon: DaemonProcess) -> None:
    async with daemon.client() as client:
        await client.chunk(payload="A" * 2**20)
        assert (await client.closed())[0] == 1009
    async with daemon.node() as node:
        await node.say({"type": "node_error", "message": "x" * 2**20})
        assert (await node.closed())[0] == 1009
    await daemon.assert_serves()


async def test_unknown_session_and_audio_before_init(daemon: DaemonProcess) -> None:
    messages: list[Json] = [
        {"type": "client_heartbeat", "session_id": "s-0123456789ABCDEF01234567", "timestamp": 1},
        {"type": "audio_chunk", "session_id": "", "seq": 0, "is_final": False, "payload": base64(plan_a())},
    ]
    for message in messages:
        async with daemon.stranger() as client:
            await client.say(message)
            assert (await client.hear())["code"] == "INVALID_SESSION"
            assert await client.closed() == (1008, "unknown session")
    async with daemon.client() as client:
        await client.chunk(plan_a(), session_id="s-0123456789ABCDEF01234567")
        assert (await client.hear())["code"] == "INVALID_SESSION"
        await client.heartbeat()
    await daemon.assert_serves()


async def test_node_that_never_registers(daemon: DaemonProcess) -> None:
    async with daemon.unregistered() as node:
        assert await node.closed() == (1008, "no registration in time")
    await daemon.assert_serves()


async def test_node_that_registers_with_nonsense(daemon: DaemonProcess) -> None:
    for frame in ("rubbish", registration(capability_schema_version="99")):
        async with daemon.unregistered() as node:
            await node.say(frame)
            error = await node.hear()
            assert error["type"] == "error"
            assert await node.closed() == (1008, error["message"])
    await daemon.assert_serves()


async def test_language_nobody_serves(daemon: DaemonProcess) -> None:
    async with daemon.working_node(), daemon.client(tgt_lang="xx") as client:
        await client.speak()
        assert (await client.until("ui_event", event="ERROR"))["error_code"] == "NO_AVAILABLE_NODE"
        assert (await client.until("missing_result"))["reason"] == "no_available_node"
        await client.utterance(1)
        await client.result(utterance_index=1)


@pytest.fixture
def mortal_node(daemon: DaemonProcess, tmp_path: Path) -> Any:
    """Starts a node in a process of its own, which takes jobs and never answers."""
    started: list[Process] = []

    async def start() -> Process:
        script = [sys.executable, str(Path(__file__).with_name("mortal_node.py")), str(await daemon.port())]
        process = Process(script, clean_environment(PYTHONPATH=os.pathsep.join(sys.path)), tmp_path)
        started.append(process)
        await process.event("ready")
        return process

    yield start
    for process in started:
        process.clear_away()


async def test_node_killed_at_work(daemon: DaemonProcess, mortal_node: Any) -> None:
    process = await mortal_node()
    async with daemon.client() as client:
        await client.speak()
        job = (await process.event("job"))["job"]
        assert job["session_id"] == client.session_id
        async with daemon.node() as node:
            process.signal(signal.SIGKILL)
            second = await node.job()
            assert second["job_id"] == f"{job['job_id']}~r2"
            assert second["session_id"] == f"{client.session_id}~r2"
            assert second["audio"] == job["audio"]
            await node.answer(second)
            assert (await client.result())["time_breakdown"]["attempts"] == 2
        await client.heartbeat()
    await daemon.assert_serves()


async def test_only_node_killed_at_work(daemon: DaemonProcess, mortal_node: Any) -> None:
    process = await mortal_node()
    async with daemon.client() as client:
        await client.speak()
        await process.event("job")
        process.signal(signal.SIGKILL)
        assert (await client.until("ui_event", event="ERROR"))["error_code"] == "NODE_UNAVAILABLE"
        assert (await client.until("missing_result"))["reason"] == "node_lost"
        await client.heartbeat()
    await daemon.assert_serves()


async def test_clients_that_come_and_go(daemon: DaemonProcess) -> None:
    """What they asked for ends with their session, what others ask for goes on."""
    port = await daemon.port()
    async with daemon.working_node(), trio.open_nursery() as nursery:
        for number in range(30):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            # who is gone reads nothing, and the library would wait for somebody to take what came
            ws = await wrap_client_stream(
                nursery, stream, "localhost", "/ws/session", message_queue_size=QUEUE
            )
            client = Client(ws, stream)
            if number % 3:
                await client.open()
                await client.speak()
            await client.drop()
    await daemon.assert_serves()


async def test_metrics_show_no_crash(daemon: DaemonProcess) -> None:
    status, text = await daemon.get("/metrics")
    assert status == 200
    crashes = [line for line in text.splitlines() if line.startswith("linguad_link_crashes_total{")]
    assert [line for line in crashes if not line.endswith(" 0.0")] == []
