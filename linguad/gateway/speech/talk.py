"""A session of the core as the public API speaks it: audio in, messages out (gateway 8)."""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from types import TracebackType

import trio
from msgspec import Struct

from linguad import __version__
from linguad.core.tenant import Caller
from linguad.errors import CloseReason, LinguadError
from linguad.gateway.speech.port import Call, Exchange
from linguad.net.bell import Bell
from linguad.wire.common import FeatureFlags, PipelineConfig
from linguad.wire.session import (
    MissingResult,
    ResultAck,
    Resume,
    ServerMessage,
    SessionInit,
    SessionInitAck,
    TranslationResult,
    Utterance,
)

PLATFORM = "public-api"
"""How these sessions call themselves; `api-gateway` is the earlier gateway, with its habits."""

WIRE_RATE = 16_000
"""Hz of streamed audio."""

MAX_UNREAD = 512
"""Messages that may wait to be read; optional ones are dropped beyond half of it."""

PARTIAL_MS = 1000
"""How often nodes are asked for what they have heard so far."""


class TalkEnded(LinguadError):
    """The session is over and nothing more will come; `reason` says why, where it was not hung up."""

    def __init__(self, reason: CloseReason | None = None) -> None:
        self.reason = reason
        super().__init__("the session is over")


class TalkSpec(Struct, frozen=True, kw_only=True):
    """What a session is for (gateway 8.2)."""

    src_lang: str
    tgt_lang: str
    audio_format: str = "pcm16"
    """`pcm16` or `opus` (Plan A)."""
    sample_rate: int = WIRE_RATE
    """Of whole utterances, Hz; streamed PCM16 always has 16000."""
    dialect: str | None = None
    features: FeatureFlags | None = None
    mode: str | None = None
    lang_a: str | None = None
    lang_b: str | None = None
    auto_langs: list[str] | None = None
    tts: bool = True
    acks: bool = False
    """Whether `AudioAck` is wanted: which pieces of streamed audio are answered, by their number from 0."""
    trace_id: str | None = None
    answer_by: float | None = None
    """When answers are waited for no longer, monotonic s."""


class Talk:
    """One session; leaving the context ends it at once, whatever is still open.

    Mutable: messages that were not read yet.
    """

    def __init__(self, exchange: Exchange, caller: Caller, spec: TalkSpec, address: str) -> None:
        """Opens the session; `address` is where the caller is. Raises TalkEnded if it was refused."""
        self._spec = spec
        self._unread: deque[ServerMessage] = deque()
        self._arrived = Bell()
        self._ended: CloseReason | None = None
        self._next_index = 0
        self._ending = False
        self._call: Call = exchange.dial(
            _init(spec),
            self._deliver,
            self._close,
            address=address,
            tenant=caller.tenant.id,
            key_id=caller.key_id,
            answer_by=spec.answer_by,
        )
        self.session_id = self._call.session_id
        ack = self._unread.popleft() if self._unread else None
        if not isinstance(ack, SessionInitAck):
            self._call.hang_up()
            raise TalkEnded(self._ended)
        self.trace_id = ack.trace_id

    def __enter__(self) -> Talk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.hang_up()

    @property
    def is_busy(self) -> bool:
        """Whether something that was said is still to be answered."""
        return self._call.is_busy

    @property
    def has_news(self) -> bool:
        """Whether `receive` returns at once."""
        return bool(self._unread)

    def utterance(self, audio: bytes) -> int:
        """Say a whole utterance; returns its index."""
        spec, index = self._spec, self._next_index
        self._next_index += 1
        self._call.say(
            Utterance(
                session_id=self.session_id,
                utterance_index=index,
                manual_cut=True,
                src_lang=spec.src_lang,
                tgt_lang=spec.tgt_lang,
                dialect=spec.dialect,
                audio=b64encode(audio).decode(),
                audio_format=spec.audio_format,
                sample_rate=spec.sample_rate,
            )
        )
        return index

    def chunk(self, audio: bytes, *, final: bool = False) -> None:
        """Stream some audio, PCM16 at 16 kHz or Plan A; the core cuts it. With `final` the utterance ends."""
        self._call.audio(audio, final=final)

    def hang_up(self) -> None:
        """Say no more: what is streamed is cut, and when all is answered, `receive` ends."""
        self._call.finish()
        self._ending = True
        self._arrived.ring()

    async def receive(self) -> ServerMessage:
        """The next message. Raises TalkEnded when nothing more will come."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._unread:
            if self._ended is not None or (self._ending and not self._call.is_busy):
                raise TalkEnded(self._ended)
            await self._arrived.wait()
        message = self._unread.popleft()
        if self._spec.acks and isinstance(message, TranslationResult | MissingResult) and message.delivery:
            self._call.say(ResultAck(session_id=self.session_id, delivery=message.delivery))
        return message

    def _deliver(self, message: ServerMessage, optional: bool) -> None:
        if len(self._unread) >= (MAX_UNREAD // 2 if optional else MAX_UNREAD):
            if not optional:
                self._close(CloseReason.QUEUE_FULL)
            return
        self._unread.append(message)
        self._arrived.ring()

    def _close(self, reason: CloseReason) -> None:
        self._ended = self._ended or reason
        self._arrived.ring()


class Talks:
    """Opens sessions for callers."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def open(self, caller: Caller, spec: TalkSpec, address: str) -> Talk:
        """A session for a caller at an address; a context manager. Raises TalkEnded if it was refused."""
        return Talk(self._exchange, caller, spec, address)


def _init(spec: TalkSpec) -> SessionInit:
    return SessionInit(
        client_version=__version__,
        platform=PLATFORM,
        src_lang=spec.src_lang,
        tgt_lang=spec.tgt_lang,
        dialect=spec.dialect,
        features=spec.features,
        mode=spec.mode,
        lang_a=spec.lang_a,
        lang_b=spec.lang_b,
        auto_langs=spec.auto_langs,
        enable_streaming_asr=True,
        partial_update_interval_ms=PARTIAL_MS,
        trace_id=spec.trace_id,
        audio_format=spec.audio_format,
        sample_rate=WIRE_RATE,
        resume=Resume() if spec.acks else None,
        pipeline=PipelineConfig(use_tts=spec.tts),
    )
