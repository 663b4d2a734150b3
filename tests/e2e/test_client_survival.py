"""The Python client outlives its connections and its server: real sockets, real processes (docs/sessions.md).

Every packet of speech has a number, so that whoever hears it can tell what is lost, doubled or out of order.
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from counting import PACKETS, Echo, chunks, until_heard
from documents import example
from processes import PATIENCE_S, DaemonProcess, Process, clean_environment, command
from redis_server import free_port

from linguad.client import GaveUpError, Reconnected, open_session
from linguad.wire.session import MissingResult, TranslationResult

ROOT = Path(__file__).parents[2]
WEATHER = ROOT / "demo" / "audio" / "weather.wav"


class Proxy:
    """Stands between a client and the daemon, and breaks what goes through it."""

    def __init__(self, port: int) -> None:
        self.cuts = 0
        self._port = port
        self._pairs: set[trio.CancelScope] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """The address of the session socket behind it."""
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, self._serve, 0, host="127.0.0.1"))
            yield f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/ws/session"
            nursery.cancel_scope.cancel()

    async def cut_every(self, seconds: float) -> None:
        """Break all connections again and again; what is on its way is gone."""
        while True:
            await trio.sleep(seconds)
            self.cuts += len(self._pairs)
            for pair in self._pairs:
                pair.cancel()

    async def _serve(self, client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", self._port)
        with trio.CancelScope() as scope:
            self._pairs.add(scope)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_pump, client, server, scope)
                nursery.start_soon(_pump, server, client, scope)
        self._pairs.discard(scope)
        for stream in (client, server):
            # closing with this set is a reset, as from a router that forgot the connection
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await trio.aclose_forcefully(stream)


async def _pump(source: trio.SocketStream, sink: trio.SocketStream, pair: trio.CancelScope) -> None:
    try:
        async for data in source:
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    pair.cancel()


async def has_audio(daemon: DaemonProcess) -> None:
    """Wait until a client has sent some."""
    metrics = ""
    while 'type="binary"' not in metrics:
        _, metrics = await daemon.get("/metrics")


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[list[DaemonProcess]]:
    """Daemons that are killed after the test; all have the same state."""
    started: list[DaemonProcess] = [DaemonProcess(tmp_path, server={"port": free_port()})]
    yield started
    for daemon in started:
        daemon.clear_away()


async def test_connection_is_cut_every_second(daemons: list[DaemonProcess]) -> None:
    """Twenty sentences come through, each once, and no chunk is lost or doubled."""
    port = await daemons[0].port()
    node, proxy, said = Echo(port), Proxy(port), chunks(80)
    with trio.fail_after(4 * PATIENCE_S):
        async with trio.open_nursery() as nursery, proxy.listening() as url:
            await nursery.start(node.run)
            async with open_session(url, "en", "es") as session:
                nursery.start_soon(proxy.cut_every, 1.0)

                async def speak() -> None:
                    for count, payload in enumerate(said, start=1):
                        await session.send_audio(payload, "opus")
                        await trio.sleep(0.07)
                        while proxy.cuts < count // 20:  # noqa: ASYNC110 - however slow this machine is
                            await trio.sleep(0.07)
                        if count % 4 == 0:
                            await session.finish_utterance()

                nursery.start_soon(speak)
                events, heard = await until_heard(session, 80 * PACKETS - 1)
                session_id = session.session_id
            nursery.cancel_scope.cancel()
    size = 4 * PACKETS
    sentences = [list(range(at, at + size)) for at in range(0, 20 * size, size)]
    assert heard == sentences
    assert node.heard == {(session_id, index): sentence for index, sentence in enumerate(sentences)}
    results = [event for event in events if isinstance(event, TranslationResult)]
    assert [(result.utterance_index, result.delivery) for result in results] == [
        (n, n + 1) for n in range(20)
    ]
    assert [event for event in events if isinstance(event, MissingResult)] == []
    reconnects = [event for event in events if isinstance(event, Reconnected)]
    assert proxy.cuts >= 3
    assert reconnects
    assert set(reconnects) == {Reconnected(True, session_id)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_daemon_is_started_again_in_the_middle_of_a_sentence(
    daemons: list[DaemonProcess], number: int, tmp_path: Path
) -> None:
    port = await daemons[0].port()
    node, said = Echo(port), chunks(6)
    with trio.fail_after(4 * PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            url = f"ws://127.0.0.1:{port}/ws/session"
            async with open_session(url, "en", "es", give_up_s=PATIENCE_S) as session:
                old_id = session.session_id
                for payload in said[:2]:
                    await session.send_audio(payload, "opus")
                daemons[0].signal(number)
                await daemons[0].ended()
                for payload in said[2:4]:
                    await session.send_audio(payload, "opus")
                daemons.append(DaemonProcess(tmp_path, server={"port": port}))
                for payload in said[4:]:
                    await session.send_audio(payload, "opus")
                await session.finish_utterance()
                events, heard = await until_heard(session, 6 * PACKETS - 1)
            nursery.cancel_scope.cancel()
    (news,) = [event for event in events if isinstance(event, Reconnected)]
    assert (news.recovered, news.lost) == (False, 0)
    assert news.session_id == session.session_id != old_id
    everything = list(range(6 * PACKETS))
    assert sorted({number for result in heard for number in result}) == everything
    last = heard[-1]
    assert last == everything[-len(last) :]
    if number == signal.SIGKILL:
        assert last == everything


async def test_it_gives_up_when_nobody_is_there_for_too_long(daemons: list[DaemonProcess]) -> None:
    url = f"ws://127.0.0.1:{await daemons[0].port()}/ws/session"
    with trio.fail_after(2 * PATIENCE_S):
        async with open_session(url, "en", "es", give_up_s=1.0) as session:
            daemons[0].signal(signal.SIGKILL)
            with pytest.raises(GaveUpError, match=r"not back after 1 s: cannot connect to ws://") as caught:
                await until_heard(session, 0)
            with pytest.raises(GaveUpError) as again:
                await session.send_audio(bytes(8192))
    assert again.value is caught.value


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_translate_goes_on(daemons: list[DaemonProcess], number: int, tmp_path: Path) -> None:
    port = await daemons[0].port()
    words = ("--from", "en", "--to", "es", "--server", f"ws://127.0.0.1:{port}/ws/session")
    with trio.fail_after(4 * PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(Echo(port).run)
            translate = Process(
                command("translate", WEATHER, *words, "--json", "--realtime"), clean_environment(), tmp_path
            )
            try:
                await has_audio(daemons[0])
                daemons[0].signal(number)
                await daemons[0].ended()
                daemons.append(DaemonProcess(tmp_path, server={"port": port}))
                code = await translate.ended()
            finally:
                translate.clear_away()
            nursery.cancel_scope.cancel()
    assert (code, translate.complaints) == (
        0,
        ["linguad translate: reconnected; sends again what had no answer"],
    )
    (line,) = translate.lines
    report = json.loads(line)
    assert (report["error"], report["reconnects"]) == (None, 1)
    assert report["text_asr"]


async def test_example_of_the_page(daemons: list[DaemonProcess], tmp_path: Path) -> None:
    port = await daemons[0].port()
    code = example("docs/sessions.md", "python")
    assert "127.0.0.1:5010" in code
    (tmp_path / "example.py").write_text(code.replace("127.0.0.1:5010", f"127.0.0.1:{port}"))
    with trio.fail_after(2 * PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(Echo(port).run)
            program = Process([sys.executable, str(tmp_path / "example.py")], clean_environment(), ROOT)
            try:
                code = await program.ended()
            finally:
                program.clear_away()
            nursery.cancel_scope.cancel()
    assert (code, program.complaints) == (0, [])
    assert [line.endswith("→ oído 0") for line in program.lines] == [True]
