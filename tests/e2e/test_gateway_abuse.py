"""Everything wrong that can be sent to the public API: clear errors, memory stays, others are served.

Rules: one daemon for the file; whoever attacks comes by a trusted proxy from an address of its own, so that
who is blocked for wrong keys is not the next test. Each test ends with a healthy daemon whose memory is about
as before; in the end its log has no error.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest
import trio
from harness import base64
from processes import PATIENCE_S, Api, DaemonProcess, form
from stream_app import SECOND, App, stream_of

MIB = 2**20
MORE_BYTES = 160 * MIB
"""What a daemon may hold more after all tests: caches, and what the allocator keeps of ten large uploads at
once; the attacks of this file send 400 MiB."""

KEY = "lk_live_aaaaaaaaaaaa_" + "x" * 43
TRANSLATE = "/v1/speech/translate"
FAILED = (1002, 1006, 1007)
"""How a socket ends whose frames are none; the library below closes it without a code."""

ADDRESSES = (f"198.51.{number // 250}.{number % 250 + 1}" for number in itertools.count())


@pytest.fixture(scope="module")
def fortress(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon with short deadlines."""
    running = DaemonProcess(
        tmp_path_factory.mktemp("fortress"),
        server={"peek_seconds": 3, "handshake_seconds": 3, "trusted_proxies": ["127.0.0.1/32"]},
        gateway={
            "body_seconds": 15,
            "failed_auth_seconds": 600,
            "stream_start_seconds": 3,
            "stream_max_unauthenticated": 50,
            "stream_outbound_queue_bytes": 65536,
        },
    )
    try:
        yield running
        running.stop()
    finally:
        running.clear_away()


@pytest.fixture(scope="module")
def at_rest() -> dict[str, int]:
    """Memory and descriptors of the daemon before the first attack."""
    return {}


@pytest.fixture
async def api(fortress: DaemonProcess, at_rest: dict[str, int]) -> AsyncIterator[Api]:
    """Its API; after the test all is well."""
    api = await fortress.gateway()
    await fortress.assert_serves()
    at_rest.setdefault("bytes", fortress.rss_bytes)
    at_rest.setdefault("files", fortress.open_files)
    yield api
    await fortress.assert_serves()
    with trio.fail_after(PATIENCE_S):
        while (await api.call("GET", "/v1/me")).json["sessions_in_use"]:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.05)
        while fortress.open_files > at_rest["files"] + 10:  # noqa: ASYNC110
            await trio.sleep(0.05)
    assert fortress.rss_bytes < at_rest["bytes"] + MORE_BYTES


def head(api: Api, length: int | str | None, kind: str = "", path: str = TRANSLATE, more: str = "") -> bytes:
    """The head of an upload."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {api.key}"]
    lines += [f"Content-Type: {kind}"] if kind else []
    lines += [] if length is None else [f"Content-Length: {length}"]
    return "\r\n".join(lines).encode() + b"\r\n" + more.encode() + b"\r\n"


async def answers(api: Api, data: bytes) -> list[int]:
    """The statuses that bytes are answered with, on one connection, until it is closed."""
    answer = b""
    with trio.fail_after(3 * PATIENCE_S):
        async with await trio.open_tcp_stream("127.0.0.1", api.port) as stream:

            async def send() -> None:
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(data)
                    await stream.send_eof()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                with suppress(trio.BrokenResourceError):
                    async for part in stream:
                        answer += part
                nursery.cancel_scope.cancel()
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


async def drip(api: Api, data: bytes, piece: int, pause: float, at_once: int = 0) -> bytes:
    """Send bytes slowly, but for those `at_once`; what comes back."""
    answer = b""
    async with await trio.open_tcp_stream("127.0.0.1", api.port) as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(data[:at_once])
                for start in range(at_once, len(data), piece):
                    await stream.send_all(data[start : start + piece])
                    await trio.sleep(pause)

        nursery.start_soon(send)
        with suppress(trio.BrokenResourceError), trio.fail_after(PATIENCE_S):
            while b"\r\n\r\n" not in answer and (part := await stream.receive_some()):
                answer += part
        nursery.cancel_scope.cancel()
    return answer


async def test_ten_mebibytes_in_drips(api: Api) -> None:
    """Those that come in time are read and refused for what they are, the others are cut."""
    body, kind = form(bytes(10 * MIB - 4096), src_lang="en", tgt_lang="es")
    statuses: Counter[bytes] = Counter()

    async def one(piece: int, pause: float, lacking: int = 0) -> None:
        begin = head(api, len(body) + lacking, kind)
        statuses[(await drip(api, begin + body, piece, pause, len(begin)))[9:12]] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(one, MIB, 0)
            nursery.start_soon(one, 1, 0.05)
        nursery.start_soon(one, MIB, 0, 9)
    assert statuses == {b"413": 3, b"408": 4}, statuses


async def test_heads_in_drips(api: Api) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(drip, api, head(api, 10), 1, 0.05)


BOMBS = ["parts", "head of a part", "heads of a part", "field", "marks that are none", "no end", "nothing"]
BOMBS += ["dots", "no mark", "long mark", "deep JSON", "names"]


def bomb(name: str) -> tuple[bytes, str]:
    """A form that is meant to hurt."""
    mark, kind = b"--x\r\nContent-Disposition: form-data; name=", "multipart/form-data; boundary=x"
    bombs = {
        "parts": (mark + b'"a"\r\n\r\n\r\n') * 100_000,
        "head of a part": mark + b'"' + b"a" * (4 * MIB) + b'"\r\n\r\n\r\n--x--\r\n',
        "heads of a part": b"--x\r\n" + b"A: b\r\n" * 500_000 + b"\r\n\r\n--x--\r\n",
        "field": mark + b'"src_lang"\r\n\r\n' + b"e" * (4 * MIB) + b"\r\n--x--\r\n",
        "marks that are none": mark + b'"src_lang"\r\n\r\n' + b"\r\n--x " * 500_000,
        "no end": mark + b'"audio"\r\n\r\n' + b"\r\n-" * MIB,
        "nothing": b"",
        "dots": b"." * MIB,
        "deep JSON": b'{"audio":' * 1_000_000,
        "names": b'{"' + b'":1,"'.join(b"%d" % number for number in range(500_000)) + b'":1}',
    }
    if name == "no mark":
        return bombs["parts"], "multipart/form-data"
    if name == "long mark":
        return bombs["parts"], "multipart/form-data; boundary=" + "x" * 200
    return bombs[name], "application/json" if name in ("deep JSON", "names") else kind


@pytest.mark.parametrize("name", BOMBS)
async def test_bombs(api: Api, name: str) -> None:
    body, kind = bomb(name)
    async with trio.open_nursery() as nursery:
        for _ in range(4):

            async def one() -> None:
                reply = await api.call("POST", TRANSLATE, body, Content_Type=kind)
                code = reply.problem(400)["code"]
                assert code in ("malformed_multipart", "invalid_field", "invalid_json", "missing_audio")

            nursery.start_soon(one)


def wav(size: int, rate: int, channels: int, bits: int, data: bytes, shown: int, kind: int = 1) -> bytes:
    """A WAV file whose header may lie."""
    align = channels * bits // 8 & 0xFFFF
    fmt = struct.pack("<HHIIHH", kind, channels, rate, rate * align & 0xFFFFFFFF, align, bits)
    return (
        b"RIFF"
        + struct.pack("<I", size)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + fmt
        + b"data"
        + struct.pack("<I", shown)
        + data
    )


LIES = {
    "4 GiB of data": wav(0xFFFFFFFF, 16000, 1, 16, SECOND, 0xFFFFFFFF),
    "no data": wav(36, 16000, 1, 16, b"", 0),
    "no rate": wav(36, 0, 1, 16, SECOND, len(SECOND)),
    "rate beyond all": wav(36, 0xFFFFFFFF, 1, 16, SECOND, len(SECOND)),
    "one sample a second": wav(36, 1, 1, 16, SECOND, len(SECOND)),
    "no channel": wav(36, 16000, 0, 16, SECOND, len(SECOND)),
    "65535 channels": wav(36, 16000, 65535, 16, SECOND, len(SECOND)),
    "no bits": wav(36, 16000, 1, 0, SECOND, len(SECOND)),
    "a kind nobody knows": wav(36, 16000, 1, 16, SECOND, len(SECOND), 0xFFFE),
    "ADPCM": wav(36, 16000, 1, 4, SECOND, len(SECOND), 2),
    "empty chunks": b"RIFF\xff\xff\xff\xffWAVE" + b"LIST\0\0\0\0" * MIB,
    "a chunk beyond the end": b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff",
    "files in files": b"RIFF\xff\xff\xff\xffWAVE" * 100_000,
    "a header alone": b"RIFF\0\0\0\0WAVE",
    "an Ogg page that never ends": b"OggS" + bytes(22) + b"\xff" * MIB,
    "Ogg pages of nothing": (b"OggS" + bytes(23)) * 100_000,
}


@pytest.mark.parametrize("name", LIES)
async def test_files_that_lie(fortress: DaemonProcess, api: Api, name: str) -> None:
    async with fortress.working_node():
        reply = await api.translate(LIES[name], src_lang="en", tgt_lang="es")
    assert reply.status in (200, 400, 413, 415, 422), reply
    if reply.status != 200:
        assert reply.problem(reply.status)["code"] in (
            "missing_audio",
            "audio_too_long",
            "unsupported_audio_format",
            "invalid_audio",
        )


async def test_wrong_lengths(api: Api) -> None:
    body, kind = form(SECOND, tgt_lang="es")
    chunked = "Transfer-Encoding: chunked\r\n"
    for told in ("-1", "abc", "1e3", "0x10", "9" * 40, "10\r\nContent-Length: 11", "+5"):
        assert await answers(api, head(api, told, kind) + body) == [400], told
    assert (await drip(api, head(api, 20 * MIB, kind) + body, MIB, 0))[9:12] == b"413"
    # more than is told is no request
    assert (await answers(api, head(api, len(body) - 9, kind) + body))[0] == 400
    assert await answers(api, head(api, None, kind, more=chunked) + b"zz\r\n") == [400]
    assert await answers(api, head(api, None, kind, more=chunked) + b"f" * 40 + b"\r\n") == [400]
    # both are told: the chunks count
    wrong, kind = form(SECOND, tgt_lang="auto")
    chunks = b"%x\r\n" % len(wrong) + wrong + b"\r\n0\r\n\r\n"
    assert (await drip(api, head(api, 5, kind, more=chunked) + chunks, MIB, 0))[9:12] == b"422"
    assert (await answers(api, head(api, None, kind) + body))[0] == 400


async def test_ten_thousand_wrong_keys(fortress: DaemonProcess, api: Api) -> None:
    """From one address 20 are looked at; from thousands each is, and others are not disturbed."""

    def ask(address: str, number: int) -> bytes:
        key = KEY[:-8] + f"{number:08}"
        lines = (
            "GET /v1/me HTTP/1.1",
            "Host: x",
            f"X-Forwarded-For: {address}",
            f"Authorization: Bearer {key}",
        )
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    guesser = next(ADDRESSES)
    statuses: Counter[int] = Counter()

    async def guess(asked: bytes) -> None:
        statuses.update(await answers(api, asked))

    async with trio.open_nursery() as nursery:
        # Hypercorn closes a connection after a thousand requests
        nursery.start_soon(guess, b"".join(ask(guesser, number) for number in range(1000)))
        for part in range(40):
            numbers = range(part * 100, part * 100 + 100)
            nursery.start_soon(guess, b"".join(ask(guesser, number) for number in numbers))
    assert statuses == {401: 20, 429: 4980}
    assert (await api.call("GET", "/v1/me", X_Forwarded_For=next(ADDRESSES))).status == 200
    statuses.clear()
    async with trio.open_nursery() as nursery:
        for part in range(50):
            guesses = (ask(f"10.{number >> 8}.{number & 255}.1", number) for number in range(part, 5000, 50))
            nursery.start_soon(guess, b"".join(guesses))
    assert statuses == {401: 5000}
    assert KEY[:30] not in "".join(fortress.lines)


async def test_huge_heads(api: Api) -> None:
    for more in ("X: " + "a" * 100_000, "X: a\r\n" * 10_000 + "X: a", "Cookie: " + "a=b; " * 5000):
        assert await answers(api, head(api, 0, more=more + "\r\n")) == [431]
    assert await answers(api, b"GET /" + b"a" * 50_000 + b" HTTP/1.1\r\n\r\n") == [431]
    assert (await answers(api, head(api, 0, path="/v1/" + "%00" * 2000)))[0] == 404
    for wrong in ("X\0: a\r\n", "X: a\0b\r\n", " folded: x\r\n", "no colon\r\n", "X : a\r\n"):
        assert await answers(api, head(api, 0, more=wrong)) == [400], wrong


async def test_pipelining(api: Api) -> None:
    ask = f"GET /v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\n\r\n".encode()
    statuses = await answers(api, ask * 90)
    assert statuses == [200] * 90
    body, kind = form(b"", tgt_lang="es")
    statuses = await answers(api, (head(api, len(body), kind) + body + ask) * 5)
    assert statuses == [400, 200] * 5


def upgrade(key: str = "") -> bytes:
    """A request for a stream; without a key the first message is to say who it is."""
    lines = ["GET /v1/stream HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket"]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    lines += [f"Authorization: Bearer {key}" if key else "Sec-WebSocket-Protocol: lingua.v1"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def test_a_thousand_half_open_upgrades(fortress: DaemonProcess, api: Api) -> None:
    """Some never end their head, some shake hands and say nothing; all are gone after a moment."""
    statuses: Counter[bytes] = Counter()

    async def one(data: bytes) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", api.port) as stream:
            answer = b""
            with suppress(trio.BrokenResourceError):
                await stream.send_all(data)
                async for part in stream:
                    answer += part
            statuses[answer[9:12]] += 1

    with trio.fail_after(3 * PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(one, upgrade()[: None if number % 2 else -2])
    assert statuses[b"101"] >= 50
    assert set(statuses) <= {b"101", b"429", b"408", b"400", b""}, statuses
    assert sum(statuses.values()) == 1000


@pytest.mark.parametrize("message", ['{"type": "ping"}', "{", '{"type": "start"}', "x" * 60_000])
async def test_floods_of_messages(api: Api, message: str) -> None:
    async with stream_of(api) as app:
        with suppress(Exception):
            for _ in range(2000):
                await app.socket.send_message(message)
        assert (await app.closed())[0] == 1008


async def test_frames_that_are_not_for_us(api: Api) -> None:
    start = b'{"type": "start", "src_lang": "en", "tgt_lang": "es"}'
    begin = b"\x81" + bytes([128 + len(start)]) + bytes(4) + start

    async def code(*frames: bytes) -> int:
        """The code in the close frame that ends what comes back; 1006 without one."""
        answer = b""
        with trio.fail_after(PATIENCE_S):
            async with await trio.open_tcp_stream("127.0.0.1", api.port) as stream:
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(upgrade(api.key) + begin)
                    for frame in frames:
                        await stream.send_all(frame)
                with suppress(trio.BrokenResourceError):
                    async for part in stream:
                        answer += part
        assert b'"started"' in answer
        said = answer.rpartition(b"}\x88")[2]
        return int.from_bytes(said[1:3], "big") if said != answer else 1006

    mask = bytes(4)
    assert await code(b"\x82\x81" + mask + b"a") == 1003
    assert await code(b"\x81\x01a") in FAILED  # not masked
    assert await code(b"\x83\x80" + mask) in FAILED  # no such opcode
    assert await code(b"\x81\xff" + (2**40).to_bytes(8, "big") + mask + bytes(5 * MIB)) == 1009
    assert await code(b"\x81\x82" + mask + b"\xff\xfe") in FAILED
    part = b"\x00\xfe" + (60_000).to_bytes(2, "big") + mask + b"a" * 60_000
    assert await code(b"\x01\x80" + mask, *[part] * 100) == 1009


async def test_nobody_reads(fortress: DaemonProcess, api: Api) -> None:
    """Who does not take its results is closed with 4413 before much is kept for it."""
    async with fortress.node(max_concurrent_jobs=8) as node, stream_of(api) as app:
        await app.say("start", src_lang="en", tgt_lang="es", output_format="packets")
        speech = base64(bytes(MIB))

        async def answer() -> None:
            while True:
                await node.answer(await node.job(), tts_audio=speech, tts_format="pcm16")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            nursery.start_soon(talk_on, app)
            closed = await fortress.event("stream_closed", reason="slow_consumer")
            assert closed["utterances"] > 0
            nursery.cancel_scope.cancel()


async def talk_on(app: App) -> None:
    """Speak and never listen."""
    with suppress(Exception):
        while True:
            await app.speak()
            await trio.sleep(0.02)
