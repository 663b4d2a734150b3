"""`/v1/stream` on real sockets: clients that vanish, and speech in formats that everybody plays.

Rules: port 0 on loopback, every wait under `fail_after`, nothing asserted about durations.
"""

from __future__ import annotations

import io
import socket
import struct
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
import soundfile
import trio
from apps import SECOND, App, Stage, stage
from harness import base64
from house import AWAY
from patience import PATIENCE_S
from trio_websocket import wrap_client_stream

from linguad import audio
from linguad.config.gateway import Gateway
from linguad.net.listen import listen, port_of


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what has no event of its own."""
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.005)


@asynccontextmanager
async def port(it: Stage) -> AsyncIterator[int]:
    """The streams of a stage on a free port."""
    listeners = await listen("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, lambda stream: it.links.serve(stream, AWAY), listeners)
        with trio.fail_after(PATIENCE_S):
            yield port_of(listeners)
        nursery.cancel_scope.cancel()


async def connect(it: Stage, number: int, nursery: trio.Nursery) -> tuple[App, trio.SocketStream]:
    stream = await trio.open_tcp_stream("127.0.0.1", number)
    ws = await wrap_client_stream(
        nursery,
        stream,
        "localhost",
        "/v1/stream",
        extra_headers=[(b"Authorization", f"Bearer {it.key}".encode())],
        message_queue_size=1000,
        max_message_size=2**26,
    )
    return App(ws, stream), stream


def vanish(stream: trio.SocketStream, how: str) -> None:
    """End a connection as a killed process, a dead phone or an impatient proxy would."""
    if how == "reset":
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how == "half":
        stream.socket.shutdown(socket.SHUT_WR)
    else:
        stream.socket.close()


@pytest.mark.parametrize("how", ["reset", "close", "half"])
@pytest.mark.parametrize("backlog", [1 << 20, 1], ids=["reading", "held back"])
async def test_a_client_that_vanishes_gives_its_slot_back(how: str, backlog: int) -> None:
    """Also while nothing is read because too much of its audio waits."""
    async with stage(Gateway(stream_backlog_bytes=backlog)) as it, port(it) as number:
        await it.world.node()
        async with trio.open_nursery() as clients:
            app, stream = await connect(it, number, clients)
            await app.start()
            for _ in range(6):
                await app.audio(SECOND[:3200])
            await until(lambda: it.world.daemon.dispatch.open_jobs == 4)
            assert it.slots == 1
            clients.cancel_scope.cancel()
        vanish(stream, how)
        await until(lambda: it.slots == 0)
        await until(lambda: len(it.streams) == 0)
        assert it.world.daemon.view.facts()["sessions"] == 0
        if how == "half":
            await stream.aclose()


@pytest.mark.parametrize("wanted", ["pcm16", "wav", "ogg_opus", "packets"])
async def test_speech_comes_in_the_format_that_was_asked_for(wanted: str) -> None:
    tone = (np.sin(np.arange(32_000) * 440 * 2 * np.pi / 16_000) * 8000).astype("<i2").tobytes()
    spoken = audio.encode_plan_a(tone, 16_000)
    async with stage() as it, port(it) as number, trio.open_nursery() as clients:
        node = await it.world.node()
        app, stream = await connect(it, number, clients)
        await app.start(output_format=wanted)
        for _ in range(2):
            await app.audio()
            job = await node.job()
            await node.answer(job, tts_audio=base64(spoken), tts_format="opus")
        finals = [await app.until("final") for _ in range(2)]
        assert [final["utterance_index"] for final in finals] == [0, 1]
        for final in finals:
            assert final["tts_format"] == ("opus" if wanted == "packets" else wanted)
            assert final["tts_sample_rate"] == 16_000
            assert _seconds(b64decode(final["audio"]), wanted) == pytest.approx(2, abs=0.1)
        clients.cancel_scope.cancel()
        await stream.aclose()


def _seconds(data: bytes, name: str) -> float:
    if name == "packets":
        return audio.duration_ms(data, "opus", 16_000) / 1000
    if name == "pcm16":
        samples = np.frombuffer(data, "<i2").astype(float)
        rate = 16_000
    else:
        samples, rate = soundfile.read(io.BytesIO(data))
        samples = samples * 32768
    assert np.abs(samples).max() > 4000, "there is a tone"
    return len(samples) / rate


async def test_speech_that_does_not_decode_leaves_the_text() -> None:
    async with stage() as it, port(it) as number, trio.open_nursery() as clients:
        node = await it.world.node()
        app, stream = await connect(it, number, clients)
        await app.start(output_format="wav")
        await app.audio()
        await node.answer(await node.job(), tts_audio=base64(b"\xff" * 100), tts_format="opus")
        final = await app.until("final")
        assert (final["text"], final["audio"], final["tts_format"]) == ("oído 0", "", "")
        clients.cancel_scope.cancel()
        await stream.aclose()
