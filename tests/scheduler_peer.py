"""A scheduler for the client's tests, over a real socket: it follows the session protocol, nothing more."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from linguad.wire import codec, opus
from linguad.wire.session import (
    AudioChunk,
    ClientHeartbeat,
    ClientMessage,
    ServerHeartbeat,
    ServerMessage,
    SessionClose,
    SessionCloseAck,
    SessionInit,
    SessionInitAck,
    TimeBreakdown,
    TranslationResult,
    UiEvent,
)

SESSION = "s-4F1D22B09A7C4E5580AB"
TRACE = "5b0cf3a2-6a4f-4a44-9d63-0a2f6f6d1f01"

Handler = Callable[[WebSocketConnection], Awaitable[None]]


def ack() -> SessionInitAck:
    """The answer of a healthy scheduler to `session_init`."""
    return SessionInitAck(
        session_id=SESSION,
        message="session created",
        trace_id=TRACE,
        protocol_version="1.0",
        use_binary_frame=False,
        negotiated_codec="opus",
        negotiated_audio_format="opus",
        negotiated_sample_rate=16000,
        negotiated_channel_count=1,
    )


def event(index: int, name: str, **members: str) -> UiEvent:
    """A `ui_event` about an utterance."""
    status = "error" if name == "ERROR" else "ok"
    return UiEvent(
        trace_id=TRACE,
        session_id=SESSION,
        job_id=f"job-{index}",
        utterance_index=index,
        event=name,
        status=status,
        **members,
    )


def result(
    index: int, asr: str, translated: str, audio: bytes, audio_format: str = "opus"
) -> TranslationResult:
    """A `translation_result` with a time breakdown."""
    return TranslationResult(
        session_id=SESSION,
        utterance_index=index,
        job_id=f"job-{index}",
        text_asr=asr,
        text_translated=translated,
        tts_audio=base64.b64encode(audio).decode(),
        tts_format=audio_format,
        trace_id=TRACE,
        time_breakdown=TimeBreakdown(
            cut_ms=40.0, queue_ms=0.1, send_ms=2.0, node_ms=700.0, reorder_ms=0.0, total_ms=742.1, attempts=1
        ),
    )


async def nothing(index: int) -> AsyncIterator[ServerMessage]:
    """The answer of a scheduler that keeps its results for itself."""
    for message in ():
        yield message


def always(*messages: Callable[[int], ServerMessage]) -> Callable[[int], AsyncIterator[ServerMessage]]:
    """An answer: these messages at once, each made for the index."""

    async def answer(index: int) -> AsyncIterator[ServerMessage]:
        for message in messages:
            yield message(index)

    return answer


@dataclass
class Scheduler:
    """Cuts at `max_packets` and at finals, and says what `answer(index)` gives for each utterance."""

    answer: Callable[[int], AsyncIterator[ServerMessage]] = nothing
    max_packets: int = 500
    closes_acknowledged: bool = True
    received: list[ClientMessage] = field(default_factory=list)
    utterances: list[bytes] = field(default_factory=list)
    _buffer: list[bytes] = field(default_factory=list)

    def of(self, kind: type[ClientMessage]) -> list[ClientMessage]:
        """The messages of one type, in order."""
        return [message for message in self.received if isinstance(message, kind)]

    async def __call__(self, ws: WebSocketConnection) -> None:
        """Serve one connection until the client closes it."""
        while True:
            message = codec.client_messages.decode(await ws.get_message())
            self.received.append(message)
            match message:
                case SessionInit():
                    await self.say(ws, ack())
                case ClientHeartbeat():
                    await self.say(ws, ServerHeartbeat(session_id=SESSION, timestamp=1))
                case SessionClose() if self.closes_acknowledged:
                    await self.say(ws, SessionCloseAck(session_id=SESSION))
                case AudioChunk(payload=payload, is_final=is_final):
                    self._buffer += opus.packets(base64.b64decode(payload or ""))
                    while len(self._buffer) >= self.max_packets:
                        await self._cut(ws, self.max_packets)
                    if is_final and self._buffer:
                        await self._cut(ws, len(self._buffer))
                case _:
                    pass

    async def _cut(self, ws: WebSocketConnection, packets: int) -> None:
        audio = opus.join(self._buffer[:packets])
        del self._buffer[:packets]
        self.utterances.append(audio)
        async for message in self.answer(len(self.utterances) - 1):
            await self.say(ws, message)

    @staticmethod
    async def say(ws: WebSocketConnection, message: ServerMessage) -> None:
        """Send one message."""
        await ws.send_message(codec.encode(message))


@asynccontextmanager
async def listening(handler: Handler, path: str = "/ws/session") -> AsyncGenerator[str]:
    """The URL under which `handler` gets each connection; all of it ends with the block."""

    async def serve(request: WebSocketRequest) -> None:
        if request.path != path:
            await request.reject(404)
            return
        ws = await request.accept()
        try:
            await handler(ws)
        except ConnectionClosed:
            pass
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await ws.aclose()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(serve_websocket, serve, "127.0.0.1", 0, ssl_context=None, max_message_size=2**24)
        )
        yield f"ws://127.0.0.1:{server.port}/ws/session"
        nursery.cancel_scope.cancel()
