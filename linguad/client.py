"""Client of `/ws/session`: speech goes up, translations come down (session-protocol 1 and 2).

    async with open_session("ws://127.0.0.1:5010/ws/session", "en", "es") as session:
        await session.send_audio(pcm16)
        await session.finish_utterance()
        async for event in session.events():
            if isinstance(event, TranslationResult):
                print(event.text_translated)
                break

On the wire it is a web client: 256 ms chunks of Opus packets, an empty final, a heartbeat every 30 s.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from typing import Literal

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from linguad import __version__, audio
from linguad.errors import AudioError, LinguadError, WireError
from linguad.net import dial
from linguad.wire import codec, opus
from linguad.wire.common import FeatureFlags
from linguad.wire.session import (
    AudioChunk,
    Backpressure,
    ClientHeartbeat,
    ClientMessage,
    ErrorMessage,
    ServerMessage,
    SessionClose,
    SessionCloseAck,
    SessionInit,
    SessionInitAck,
)

CHUNK_SAMPLES = 4096
"""Samples in a chunk, 256 ms: what a browser captures at a time (session-protocol 1.9)."""

CONNECT_S = 10.0
"""Deadline for TCP, TLS and the upgrade, each slow only when something is wrong, s."""

ACK_S = 10.0
"""Deadline for `session_init_ack`, which a server sends without looking anything up, s."""

SEND_S = 30.0
"""Deadline for one message to leave; enough for a paused minute of audio on a slow uplink, s."""

CLOSE_S = 5.0
"""Deadline for `session_close_ack` and for the closing handshake, each, s."""

HEARTBEAT_S = 30.0
"""Between two heartbeats, as real web clients do (session-protocol 1.5), s."""

SILENCE_S = 3 * HEARTBEAT_S
"""Without any frame for this long the server is taken for dead: it left three heartbeats unanswered, s."""

MAX_PAUSE_S = 10.0
"""Longest pause obeyed on one `backpressure`; servers ask for 1 to 3 s and repeat it, s."""

MAX_EVENTS = 256
"""Events held for an application that does not read; when full, the socket is no longer read."""

MAX_MESSAGE_BYTES = 16 * 2**20
"""Longest message that is accepted."""

_CHUNK_BYTES = 2 * CHUNK_SAMPLES
_PACKET_BYTES = 2 * audio.PACKET_SAMPLES
_PACKETS_PER_CHUNK = -(-_CHUNK_BYTES // _PACKET_BYTES)

AudioFormat = Literal["pcm16", "opus"]


class ClientError(LinguadError):
    """A session could not be opened or came to an unwanted end."""


class ConnectError(ClientError):
    """Nothing that speaks the session protocol answers at the address."""


class RefusedError(ClientError):
    """The server answered, but gave no session; `code` is its error code (session-protocol 8)."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class ClosedError(ClientError):
    """The connection is gone; `code` is the WebSocket close code, 1006 when it just broke."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


class SilentError(ClientError):
    """The server keeps the connection open but no longer reads or answers."""


class Session:
    """One open session; made by `open_session`.

    One task may send while another reads `events`. A failure of the connection ends the session for good: the
    method that meets it, all later ones and `events` raise the same ClientError.
    """

    def __init__(self, ws: WebSocketConnection, ack: SessionInitAck, upload: AudioFormat) -> None:
        self.session_id = ack.session_id
        self.trace_id = ack.trace_id
        self.assigned_node_id = ack.assigned_node_id
        self._ws = ws
        self._upload = upload
        self._sink, self._events = trio.open_memory_channel[ServerMessage](MAX_EVENTS)
        self._rest = bytearray()
        self._seq = 0
        self._open_utterance = False
        self._resume_at = 0.0
        self._waiting_since: float | None = None
        self._failure: ClientError | None = None
        self._closing = False
        self._acknowledged = False
        self._ended = trio.Event()

    async def send_audio(self, samples: bytes, audio_format: AudioFormat = "pcm16") -> None:
        """Send some speech of the running utterance.

        `pcm16` (16 kHz, mono, little-endian, any length) is cut into chunks and encoded, what does not fill a
        chunk waits for more; `opus` (Plan A records) is sent as one chunk, as it is. Waits while the server
        wants a pause. Raises AudioError if samples are not whole or formats are mixed, and ClientError.
        """
        if audio_format == "opus":
            if self._rest:
                raise AudioError("Opus packets cannot follow PCM16 within one utterance")
            await self._send_chunk(samples)
            return
        if len(samples) % 2:
            raise AudioError("PCM16 audio is a whole number of 16-bit samples; these bytes are odd in number")
        self._rest += samples
        whole = len(self._rest) // _CHUNK_BYTES * _CHUNK_BYTES
        ready = bytes(self._rest[:whole])
        del self._rest[:whole]
        await self._send_pcm16(ready)

    async def finish_utterance(self) -> None:
        """Say that the utterance is complete; without audio since the last time there is nothing to say.

        Raises ClientError.
        """
        rest = bytes(self._rest)
        self._rest.clear()
        await self._send_pcm16(rest)
        if self._open_utterance:
            await self._send_chunk(b"", is_final=True)

    async def heartbeat(self) -> None:
        """Ask for a `ServerHeartbeat` event; it comes after everything the server sent before it got this.

        The session sends heartbeats by itself as well. Raises ClientError.
        """
        await self.send(ClientHeartbeat(session_id=self.session_id, timestamp=_epoch_ms()))

    async def send(self, message: ClientMessage) -> None:
        """Send any message of the session protocol, for example a whole `Utterance` or a `RoomJoin`.

        Raises ClientError. A cancelled send ends the session, because half a frame may be out.
        """
        if self._failure is not None:
            raise self._failure
        text = codec.encode(message)
        sent = False
        try:
            with trio.fail_after(SEND_S):
                await self._ws.send_message(text)
            sent = True
        except ConnectionClosed:
            raise self._fail(_closed(self._ws)) from None
        except trio.TooSlowError:
            raise self._fail(SilentError(f"the server took no data for {SEND_S:g} s")) from None
        finally:
            if not sent:
                self._fail(ClosedError(1006, "the session ended because a message was not sent completely"))
                await self._abort()

    async def receive(self) -> ServerMessage:
        """The next message of the server after the first; may be cancelled without losing one.

        Raises ClientError when the connection has ended, after the messages that came before.
        """
        try:
            return await self._events.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise self._failure or ClosedError(1000, "the session is closed") from None

    async def events(self) -> AsyncIterator[ServerMessage]:
        """Every message that `receive` gives, until `close`. Raises ClientError if the connection is lost."""
        try:
            while True:
                yield await self.receive()
        except ClientError:
            if not self._closing:
                raise

    async def close(self, reason: str = "client_disconnect") -> bool:
        """End the session and close the connection; true if the server acknowledged it in time.

        Events that were not read are dropped. Called by itself at the end of `open_session`.
        """
        if self._closing or self._failure is not None:
            return self._acknowledged
        self._closing = True
        self._events.close()
        with trio.move_on_after(CLOSE_S):
            try:
                await self.send(SessionClose(session_id=self.session_id, reason=reason))
                await self._ended.wait()
            except ClientError:
                return False
        with trio.move_on_after(CLOSE_S):
            await self._ws.aclose()
        return self._acknowledged

    async def _send_pcm16(self, samples: bytes) -> None:
        if not samples:
            return
        if self._upload == "pcm16":
            payloads = [samples[at : at + _CHUNK_BYTES] for at in range(0, len(samples), _CHUNK_BYTES)]
        else:
            payloads = await trio.to_thread.run_sync(encode_chunks, samples)
        for payload in payloads:
            await self._send_chunk(payload)

    async def _send_chunk(self, payload: bytes, is_final: bool = False) -> None:
        await trio.sleep_until(self._resume_at)
        chunk = AudioChunk(
            session_id=self.session_id,
            seq=self._seq,
            is_final=is_final,
            payload=base64.b64encode(payload).decode(),
            client_timestamp_ms=_epoch_ms(),
        )
        self._seq += 1
        self._open_utterance = not is_final
        await self.send(chunk)

    async def _read(self) -> None:
        with self._sink:
            while True:
                self._waiting_since = trio.current_time()
                try:
                    frame = await self._ws.get_message()
                except ConnectionClosed:
                    self._fail(_closed(self._ws))
                    break
                # An application that reads slowly must not look like a silent server.
                self._waiting_since = None
                try:
                    message = codec.server_messages.decode(frame)
                except WireError:
                    # A newer server may say more than we know; the codec has counted it.
                    continue
                if isinstance(message, SessionCloseAck):
                    self._acknowledged = True
                    break
                if isinstance(message, Backpressure):
                    pause = min(message.resume_after_ms / 1000, MAX_PAUSE_S)
                    self._resume_at = trio.current_time() + pause
                try:
                    # No deadline: this is the application's own pace, and `close` ends it.
                    await self._sink.send(message)
                except trio.BrokenResourceError:
                    # `close` was called: only its acknowledgement is still of interest.
                    continue
        self._ended.set()

    async def _beat(self) -> None:
        while self._failure is None:
            await trio.sleep(HEARTBEAT_S)
            waiting = self._waiting_since
            if waiting is not None and trio.current_time() - waiting >= SILENCE_S:
                self._fail(SilentError(f"the server has not answered for {SILENCE_S:g} s"))
                await self._abort()
                return
            try:
                await self.heartbeat()
            except ClientError:
                # It is kept, and raised by whatever the application does next.
                return

    def _fail(self, error: ClientError) -> ClientError:
        """Keep the first failure, which is the cause of all later ones."""
        if self._failure is None:
            self._failure = error
        return self._failure

    async def _abort(self) -> None:
        """Drop the socket without a closing handshake."""
        with trio.CancelScope(shield=True) as scope:
            scope.cancel()
            await self._ws.aclose()


@asynccontextmanager
async def open_session(
    url: str,
    src: str,
    tgt: str,
    *,
    two_way: bool = False,
    upload: AudioFormat = "opus",
    platform: str = "web",
    client_version: str = f"linguad-python/{__version__}",
    locale: str | None = None,
    dialect: str | None = None,
    features: FeatureFlags | None = None,
    pairing_code: str | None = None,
    tenant_id: str | None = None,
    trace_id: str | None = None,
) -> AsyncGenerator[Session]:
    """Open a session for speech in `src` that is to be heard in `tgt` (language codes, `src` may be `auto`).

    With `two_way` people speak either of the two languages and hear the other. `upload` is how PCM16 travels.
    Raises ConnectError, RefusedError, SilentError or ClosedError (session-protocol 1.3, 1.4).
    """
    init = SessionInit(
        client_version=client_version,
        platform=platform,
        src_lang="auto" if two_way else src,
        tgt_lang=tgt,
        mode="two_way_auto" if two_way else "one_way",
        lang_a=src if two_way else None,
        lang_b=tgt if two_way else None,
        auto_langs=[src, tgt] if two_way else None,
        dialect=dialect,
        features=features or FeatureFlags(),
        pairing_code=pairing_code,
        tenant_id=tenant_id,
        trace_id=trace_id or str(uuid.uuid4()),
        locale=locale,
    )
    async with AsyncExitStack() as stack:
        try:
            ws = await stack.enter_async_context(
                dial.websocket(url, connect_seconds=CONNECT_S, max_message_bytes=MAX_MESSAGE_BYTES)
            )
        except dial.AddressError as error:
            raise ConnectError(str(error)) from error
        except dial.DialError as error:
            raise ConnectError(f"{error}; is linguad running there? Start it with: linguad serve") from error
        session = await _introduce(ws, init, upload)
        with dial.ungrouped():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session._read)
                nursery.start_soon(session._beat)
                try:
                    yield session
                except Exception:
                    await session.close()
                    raise
                await session.close()
                nursery.cancel_scope.cancel()


def encode_chunks(samples: bytes) -> list[bytes]:
    """The chunks of PCM16 (16 kHz mono) as Plan A payloads, each padded to whole packets as a browser's are.

    For a worker thread, like all of `linguad.audio`.
    """
    padded = bytearray()
    for at in range(0, len(samples), _CHUNK_BYTES):
        chunk = samples[at : at + _CHUNK_BYTES]
        padded += chunk + bytes(-len(chunk) % _PACKET_BYTES)
    return list(_groups(opus.packets(audio.encode_plan_a(bytes(padded), audio.WIRE_RATE))))


async def _introduce(ws: WebSocketConnection, init: SessionInit, upload: AudioFormat) -> Session:
    try:
        with trio.fail_after(ACK_S):
            await ws.send_message(codec.encode(init))
            answer = codec.server_messages.decode(await ws.get_message())
    except trio.TooSlowError:
        raise SilentError(f"the server gave no session within {ACK_S:g} s") from None
    except ConnectionClosed:
        raise _closed(ws) from None
    except WireError as error:
        raise RefusedError(error.code, f"the server's answer makes no sense: {error}") from error
    match answer:
        case SessionInitAck(session_id=session_id) if session_id:
            return Session(ws, answer, upload)
        case ErrorMessage():
            raise RefusedError(answer.code, f"the server refused: {answer.message} ({answer.code})")
        case _:
            raise RefusedError("INVALID_MESSAGE", "the server's first message gives no session")


def _closed(ws: WebSocketConnection) -> ClosedError:
    code, reason = (ws.closed.code, ws.closed.reason) if ws.closed is not None else (1006, None)
    if code == 1006:
        return ClosedError(code, "the connection to the server broke")
    return ClosedError(code, f"the server closed the connection ({code}{f': {reason}' if reason else ''})")


def _groups(packets: Iterator[bytes]) -> Iterator[bytes]:
    while group := list(islice(packets, _PACKETS_PER_CHUNK)):
        yield opus.join(group)


def _epoch_ms() -> int:
    return time.time_ns() // 1_000_000
