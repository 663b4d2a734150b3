"""One recording through one session, from its first byte to the last result (gateway 5, 8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import trio
from msgspec import Struct
from msgspec.structs import replace

from linguad.core.tenant import Caller
from linguad.errors import CloseReason
from linguad.gateway.speech.mapping import (
    EMPTY,
    NO_CAPACITY,
    RETRY_AFTER_S,
    SESSION_LOST,
    TIMEOUT,
    Failure,
    failure_of,
)
from linguad.gateway.speech.sound import Clip
from linguad.gateway.speech.talk import WIRE_RATE, Talk, TalkEnded, Talks, TalkSpec
from linguad.web.problems import Problem
from linguad.wire import opus
from linguad.wire.session import (
    AsrPartial,
    ErrorMessage,
    MissingResult,
    ServerMessage,
    TranslationResult,
    UiEvent,
)

PIECE_MS = 1000
"""Long recordings are streamed in pieces of so much audio, so that others have their turn between."""

AHEAD = 4
"""Parts of a recording that nodes have at once; more would wait too long for the node that has the first."""


class Translation(Struct, frozen=True, kw_only=True):
    """What came of a recording: its results in order, none of silence."""

    session_id: str
    trace_id: str
    results: tuple[TranslationResult, ...]
    charged_ms: int
    """What it costs."""


class _Heard:
    """Mutable: what has come of each index."""

    def __init__(self) -> None:
        self.results: dict[int, TranslationResult] = {}
        self.errors: dict[int, str] = {}
        self.missing: dict[int, str] = {}
        self.cut = 0
        """Parts that streamed audio was cut into so far."""
        self.partial: set[int] = set()
        """Parts whose text came, and whose translation comes with the end."""
        self.refused: str | None = None
        """The code of an error that concerns the whole session."""
        self.details: dict[str, Any] | None = None
        """What nodes do instead, where none does what is asked for."""

    def take(self, message: ServerMessage) -> None:
        match message:
            case TranslationResult():
                self.results[message.utterance_index] = message
                self.missing.pop(message.utterance_index, None)
            case MissingResult():
                self.missing[message.utterance_index] = message.reason
            case UiEvent(status="error", error_code=str(code)):
                self.errors[message.utterance_index] = code
                self.details = self.details or message.details
            case UiEvent(event="INPUT_ENDED"):
                self.cut += 1
            case AsrPartial(is_final=True):
                self.partial.add(message.utterance_index)
            case ErrorMessage():
                self.refused = self.refused or message.code

    @property
    def ahead(self) -> int:
        """Parts that nodes are still listening to."""
        return self.cut - len({*self.results, *self.missing, *self.partial})

    def failure(self) -> Failure | None:
        """The first failure, when all is over; a late result has mended its index."""
        for index, reason in sorted(self.missing.items()):
            if reason not in EMPTY:
                return failure_of(self.errors.get(index), reason)
        if not self.results and not self.missing:
            return failure_of(self.refused) if self.refused else SESSION_LOST
        return None


async def translate(
    talks: Talks,
    caller: Caller,
    spec: TalkSpec,
    clip: Clip,
    *,
    address: str,
    timeout_s: float,
    longest_utterance_ms: int,
    charged_ms: Callable[[str], int],
) -> Translation:
    """Translate a recording, one longer than `longest_utterance_ms` in pieces that the core cuts.

    `charged_ms` tells what an open session was charged so far: silence costs nothing.
    Raises Problem as gateway 8.4 has it, 504 after `timeout_s`. Cancelled, it leaves nothing behind.
    """
    spec = replace(spec, audio_format=clip.audio_format, answer_by=trio.current_time() + timeout_s)
    with trio.move_on_after(timeout_s):
        try:
            with talks.open(caller, spec, address) as talk:
                heard = _Heard()
                if clip.duration_ms <= longest_utterance_ms:
                    talk.utterance(clip.data)
                else:
                    await _stream(talk, clip, heard)
                talk.hang_up()
                await _listen(talk, heard)
                if failure := heard.failure():
                    raise problem(failure, heard.details)
                return Translation(
                    session_id=talk.session_id,
                    trace_id=talk.trace_id,
                    results=tuple(result for _, result in sorted(heard.results.items())),
                    charged_ms=charged_ms(talk.session_id),
                )
        except TalkEnded as ended:
            crowded = ended.reason in (CloseReason.TOO_MANY_SESSIONS, CloseReason.SHUTDOWN)
            raise problem(NO_CAPACITY if crowded else SESSION_LOST) from None
    raise problem(TIMEOUT)


def problem(failure: Failure, details: Mapping[str, Any] | None = None) -> Problem:
    """A failure as an answer."""
    headers = {"Retry-After": str(RETRY_AFTER_S)} if failure.status == 503 else None
    return Problem(
        failure.status,
        failure.code,
        failure.message,
        retryable=failure.retryable,
        details=details if failure is NO_CAPACITY else None,
        headers=headers,
    )


async def _stream(talk: Talk, clip: Clip, heard: _Heard) -> None:
    """Say a recording as fast as nodes keep up, but never slower than it was spoken.

    A node may keep a part back until the next one comes, so that no answer is worth waiting for longer.
    """
    for piece in _pieces(clip):
        with trio.move_on_after(PIECE_MS / 1000):
            while talk.has_news or heard.ahead >= AHEAD:
                heard.take(await talk.receive())
        talk.chunk(piece)
        await trio.lowlevel.checkpoint()


def _pieces(clip: Clip) -> list[bytes]:
    """A recording cut at whole samples or packets."""
    audio = clip.data
    if clip.audio_format == "pcm16":
        size = PIECE_MS * WIRE_RATE * 2 // 1000
        return [audio[start : start + size] for start in range(0, len(audio), size)]
    packets, most = list(opus.packets(audio)), PIECE_MS // opus.PACKET_MS
    return [opus.join(packets[start : start + most]) for start in range(0, len(packets), most)]


async def _listen(talk: Talk, heard: _Heard) -> None:
    """Take in everything; the talk was hung up, so that it ends when all is answered."""
    while True:
        try:
            heard.take(await talk.receive())
        except TalkEnded as ended:
            if ended.reason is not None:
                raise
            return
