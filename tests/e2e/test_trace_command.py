"""`linguad trace` and `linguad top` ask a real daemon; the stream of events over a real socket."""

from __future__ import annotations

import json
from functools import partial
from subprocess import CompletedProcess

import trio
from conftest import Start
from processes import DaemonProcess, linguad

PATIENCE_S = 60.0


async def run(daemon: DaemonProcess, *words: str) -> CompletedProcess[str]:
    """Run a command against a daemon."""
    server = f"http://127.0.0.1:{await daemon.port()}"
    return await trio.to_thread.run_sync(partial(linguad, *words, "--server", server))


async def test_a_conversation_and_the_whole(start: Start) -> None:
    daemon = start()
    async with daemon.working_node() as node, daemon.client() as client:
        for _ in range(2):
            await client.speak()
            result = await client.result()
        done = await run(daemon, "trace", client.session_id)
        assert (done.returncode, done.stderr) == (0, "")
        assert client.session_id in done.stdout
        assert done.stdout.count(node.id) == 2
        assert "oído" not in done.stdout
        done = await run(daemon, "trace", result["job_id"], "--json")
        (row,) = json.loads(done.stdout)["utterances"]
        assert (row["index"], row["outcome"], row["node_id"]) == (1, "completed", node.id)
        breakdown = result["time_breakdown"]
        for stage in ("cut", "queue", "send", "node", "total"):
            assert abs(row["stages"][f"{stage}_ms"] - breakdown[f"{stage}_ms"]) < 0.01
        done = await run(daemon, "trace", "nothing")
        assert (done.returncode, done.stdout) == (1, "")
        assert "SESSION:INDEX" in done.stderr
        done = await run(daemon, "top", "--once")
        assert (done.returncode, done.stderr) == (0, "")
        assert "ready" in done.stdout
        done = await run(daemon, "top", "--json")
        assert json.loads(done.stdout)["outcomes"] == {"completed": 2}
    daemon.stop()


async def test_listeners_come_and_go_and_are_let_go_at_the_end(start: Start) -> None:
    daemon = start(server={"drain_seconds": 0.5})
    port = await daemon.port()
    with trio.fail_after(PATIENCE_S):
        async with (
            await trio.open_tcp_stream("127.0.0.1", port) as first,
            await trio.open_tcp_stream("127.0.0.1", port) as second,
        ):
            for stream in (first, second):
                await stream.send_all(b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                heard = b""
                while heard.count(b"event: overview") < 2:
                    heard += await stream.receive_some()
                assert heard.startswith(b"HTTP/1.1 200")
                assert b"text/event-stream" in heard
            assert await listeners(daemon) == 2
            await first.aclose()
            while True:
                if await listeners(daemon) == 1:
                    break
                await trio.sleep(0.2)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, daemon.stop)
                while await second.receive_some():
                    pass


async def test_old_paths_lead_on(start: Start) -> None:
    daemon = start()
    port = await daemon.port()
    with trio.fail_after(PATIENCE_S):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            head = b"GET /api/nodes?q=a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            await stream.send_all(head)
            heard = b""
            while more := await stream.receive_some():
                heard += more
    assert heard.startswith(b"HTTP/1.1 307")
    assert b"location: /api/v1/nodes?q=a\r\n" in heard.lower()
    daemon.stop()


async def listeners(daemon: DaemonProcess) -> float:
    """How many follow the overview."""
    _, text = await daemon.get("/metrics")
    (line,) = (line for line in text.splitlines() if line.startswith("linguad_live_listeners "))
    return float(line.split()[1])
