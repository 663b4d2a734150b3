"""Bodies over real sockets: slow, endless, refused, given up; and what memory they take.

Rules: port 0 on loopback, every wait under `fail_after`, short limits instead of long waits.
"""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import soundfile
import trio
import trio.testing
from patience import PATIENCE_S
from quart import Response, jsonify, request
from werkzeug.exceptions import Unauthorized

from linguad.core.tenant import Tenant
from linguad.gateway.speech.form import read_form
from linguad.gateway.speech.request import FIELDS, parse_request
from linguad.gateway.speech.sound import Sounds
from linguad.net.http import HttpApp
from linguad.net.outbox import Budget
from linguad.net.peer import Peer
from linguad.web.app import create_app
from linguad.web.bodies import LargeBodies, body_of
from linguad.web.problems import answer_problems

MIB = 1024 * 1024
LIMIT = 18 * MIB
"""More than Quart itself would take."""

HEAD = b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
TAIL = b"\r\n--b--\r\n"
PATHS = ("/upload", "/translate", "/slow", "/closed")
WAV = Path(__file__).parents[2] / "demo/audio/weather.wav"


@dataclass
class Server:
    """A gateway that answers with the size of the audio it got."""

    port: int
    connections: trio.Nursery
    slow: trio.Event = field(default_factory=trio.Event)
    """Set: `/slow` begins to read."""

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def idle(self) -> None:
        """Wait until nothing is left of any connection."""
        with trio.fail_after(PATIENCE_S):
            while self.connections.child_tasks:  # noqa: ASYNC110
                await trio.sleep(0.01)


@asynccontextmanager
async def gateway(
    *, seconds: float = 20.0, linger: float = 20.0, budget: Budget | None = None
) -> AsyncIterator[Server]:
    budget = budget or Budget(1 << 30)
    app, sounds = create_app("test"), Sounds()
    answer_problems(app)

    async def size() -> Response:
        form = await read_form(
            body_of(request.scope),
            request.headers.get("Content-Type"),
            request.content_length,
            names=("src_lang",),
            max_bytes=LIMIT,
            seconds=seconds,
        )
        return jsonify(size=len(form.audio))

    app.post("/upload")(size)

    @app.post("/translate")
    async def translate() -> Response:
        form = await read_form(
            body_of(request.scope),
            request.headers.get("Content-Type"),
            request.content_length,
            names=FIELDS,
            max_bytes=LIMIT,
            seconds=seconds,
        )
        wanted = parse_request(form.fields, Tenant(id="t", name="t", created_at=0, updated_at=0))
        found = await sounds.clip(form.audio, wanted.audio_format, wanted.sample_rate, max_seconds=120)
        return jsonify(tgt_lang=wanted.tgt_lang, format=found.audio_format, ms=found.duration_ms)

    @app.post("/slow")
    async def slow() -> Response:
        await server.slow.wait()
        return await size()

    @app.post("/closed")
    async def closed() -> Response:
        raise Unauthorized

    @app.post("/small")
    async def small() -> Response:
        return jsonify(size=len(await request.get_data()))

    http = HttpApp("test", LargeBodies(app, PATHS, budget, linger_seconds=linger))
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def serve(stream: trio.SocketStream) -> None:
        await http.serve(stream, Peer("127.0.0.1", 1))

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery, trio.open_nursery() as connections:
            await nursery.start(http.run)
            await nursery.start(partial(trio.serve_listeners, serve, listeners, handler_nursery=connections))
            server = Server(listeners[0].socket.getsockname()[1], connections)
            yield server
            connections.cancel_scope.cancel()
            nursery.cancel_scope.cancel()


def head(path: str = "/upload", *, length: int | None = None, more: str = "") -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    kind = "Content-Type: multipart/form-data; boundary=b"
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{kind}\r\n{framing}\r\n{more}\r\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def answer(stream: trio.SocketStream) -> tuple[int, dict[str, object]]:
    """The next answer on a connection."""
    got = bytearray()
    with trio.fail_after(PATIENCE_S):
        while b"\r\n\r\n" not in got:
            got += await some(stream)
        top, _, body = bytes(got).partition(b"\r\n\r\n")
        lines = top.lower().split(b"\r\n")
        length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
        while len(body) < length:
            body += await some(stream)
    return int(top.split()[1]), json.loads(body)


async def some(stream: trio.SocketStream) -> bytes:
    data = await stream.receive_some()
    assert data, "the connection was closed before its answer"
    return bytes(data)


def code(body: dict[str, object]) -> object:
    error = body["error"]
    assert isinstance(error, dict)
    return error["code"]


async def pour(stream: trio.SocketStream, size: int, *, chunked: bool) -> int:
    """Send so many bytes, or as many as are taken before the connection ends; how many that were."""
    piece = bytes(256 * 1024)
    sent = 0
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while sent < size:
            await stream.send_all(chunk(piece) if chunked else piece)
            sent += len(piece)
    return sent


@pytest.mark.parametrize("path", ["/upload", "/upload/"])
async def test_an_upload_is_read_and_the_connection_kept(path: str) -> None:
    body = HEAD + bytes(5 * MIB) + TAIL
    async with gateway() as server, await server.connect() as stream:
        for _ in range(2):
            await stream.send_all(head(path, length=len(body)) + body)
            assert await answer(stream) == (200, {"size": 5 * MIB})
        await stream.send_all(head(path) + chunk(body[:1000]) + chunk(body[1000:]) + chunk(b""))
        assert await answer(stream) == (200, {"size": 5 * MIB})


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_sound_file_is_all_that_a_form_needs(chunked: bool) -> None:
    """As `curl -F audio=@weather.wav -F tgt_lang=es` sends it."""
    field = b'\r\n--b\r\nContent-Disposition: form-data; name="tgt_lang"\r\n\r\nes'
    body = HEAD + WAV.read_bytes() + field + TAIL
    sent = chunk(body) + chunk(b"") if chunked else body
    async with gateway() as server, await server.connect() as stream:
        await stream.send_all(head("/translate", length=None if chunked else len(body)) + sent)
        expected = round(soundfile.info(WAV).duration * 1000)
        assert await answer(stream) == (200, {"tgt_lang": "es", "format": "pcm16", "ms": expected})


async def test_what_is_wrong_with_a_form_is_told() -> None:
    field = b'\r\n--b\r\nContent-Disposition: form-data; name="tgt_lang"\r\n\r\nauto'
    body = HEAD + field + TAIL
    async with gateway() as server, await server.connect() as stream:
        await stream.send_all(head("/translate", length=len(body)) + body)
        status, refusal = await answer(stream)
        assert (status, code(refusal)) == (422, "unsupported_language")
        await stream.send_all(head("/translate", length=20) + b"no form at all, sir!")
        status, refusal = await answer(stream)
        assert (status, code(refusal)) == (400, "malformed_multipart")


async def test_other_paths_are_left_to_quart() -> None:
    async with gateway() as server, await server.connect() as stream:
        await stream.send_all(head("/small", length=1000) + bytes(1000))
        assert await answer(stream) == (200, {"size": 1000})


@pytest.mark.parametrize("chunked", [False, True])
async def test_too_large_a_body_is_refused_while_it_comes_and_takes_no_memory(chunked: bool) -> None:
    """The client reads its answer although it is still sending."""
    size = 40 * MIB
    async with gateway() as server, await server.connect() as stream:
        tracemalloc.start()
        await stream.send_all(head(length=None if chunked else size) + (chunk(HEAD) if chunked else b""))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(pour, stream, size, chunked=chunked))
            status, body = await answer(stream)
            await stream.aclose()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (status, code(body)) == (413, "payload_too_large")
        # What was read of the audio before it was known to be too large, twice, as it is cut into blocks.
        assert peak < (2 * LIMIT if chunked else 4 * MIB)
        await server.idle()


async def test_bodies_count_against_the_memory_of_all_connections() -> None:
    budget = Budget(MIB)
    async with gateway(budget=budget) as server:
        for size, status in ((4 * MIB, 503), (MIB // 2, 200)):
            body = HEAD + bytes(size) + TAIL
            async with await server.connect() as stream:
                await stream.send_all(head(length=len(body)) + body)
                assert (await answer(stream))[0] == status
            await server.idle()
            assert budget.used == 0


async def test_who_may_not_send_is_told_so_at_once() -> None:
    async with gateway() as server, await server.connect() as stream:
        await stream.send_all(head("/closed", length=10**9))
        assert (await answer(stream))[0] == 401
        await stream.aclose()
        await server.idle()


async def test_a_client_that_goes_on_sending_is_cut() -> None:
    async with gateway(linger=0.2) as server, await server.connect() as stream:
        await stream.send_all(head("/closed", length=10**9))
        assert (await answer(stream))[0] == 401
        await server.idle()
        assert await pour(stream, 10**9, chunked=False) < 10**8


async def test_a_refused_body_that_ends_keeps_the_connection() -> None:
    async with gateway() as server, await server.connect() as stream:
        await stream.send_all(head("/closed", length=MIB) + bytes(MIB))
        assert (await answer(stream))[0] == 401
        body = HEAD + TAIL
        await stream.send_all(head(length=len(body)) + body)
        assert await answer(stream) == (200, {"size": 0})


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_slow_drip_is_cut(chunked: bool) -> None:
    async with gateway(seconds=0.3) as server, await server.connect() as stream:
        await stream.send_all(head(length=None if chunked else LIMIT))

        async def drip() -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                for number in range(LIMIT):
                    byte = HEAD[number : number + 1] or b"x"
                    await stream.send_all(chunk(byte) if chunked else byte)
                    await trio.sleep(0.005)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            status, body = await answer(stream)
            assert (status, code(body)) == (408, "request_timeout")
            await stream.aclose()
        await server.idle()


async def test_a_stalled_body_is_cut() -> None:
    async with gateway(seconds=0.3, linger=0.2) as server, await server.connect() as stream:
        await stream.send_all(head(length=LIMIT) + HEAD + bytes(MIB))
        status, body = await answer(stream)
        assert (status, code(body)) == (408, "request_timeout")
        await server.idle()


async def test_a_body_waits_in_the_socket_for_its_view() -> None:
    body = HEAD + bytes(LIMIT - 1000) + TAIL
    async with gateway() as server, await server.connect() as stream:
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 128 * 1024)
        tracemalloc.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, head("/slow", length=len(body)) + body)
            await trio.testing.wait_all_tasks_blocked(0.1)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            server.slow.set()
            assert await answer(stream) == (200, {"size": LIMIT - 1000})
        assert peak < len(body) + 3 * MIB, "the request itself, and what stands in queues"


@pytest.mark.parametrize("path", ["/upload", "/slow", "/closed"])
async def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(path: str) -> None:
    async with gateway() as server:
        stream = await server.connect()
        await stream.send_all(head(path, length=LIMIT) + HEAD + bytes(100_000))
        await trio.sleep(0.05)
        await stream.aclose()
        await server.idle()
