"""`/v1/listen`: programs written for Deepgram's live transcription, with a translation beside the transcript.

A thin dialect of `/v1/stream`: one session per socket, which the query opens; audio in binary frames, results
as text. Parameters that linguad has no use for (`model`, `punctuate`, ...) are ignored, as are `words`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from linguad import __version__
from linguad.core import sound
from linguad.errors import ErrorCode, WireError
from linguad.gateway.stream.opening import STREAM, opening_of
from linguad.gateway.stream.streams import Streams, refusal, request_id_of
from linguad.net.upgrade import Refusal, UpgradeRequest, Welcome
from linguad.web.problems import Problem
from linguad.wire.language import AUTO
from linguad.wire.moment import rfc3339
from linguad.wire.public import (
    Empty,
    End,
    Ended,
    Error,
    Event,
    Final,
    Partial,
    Ping,
    Start,
    Started,
    StreamAnswer,
    StreamMessage,
)

ENDPOINTING_MS = 500
"""Silence after speech that ends an utterance, where nothing is said: short pauses in a sentence are longer
than Deepgram's own default of 10 ms, and translations of half sentences are poor."""

SILENCE_RMS = 0.01
"""Quieter than this is silence, full scale being 1."""

PACE = 4.0
"""How many times the messages of `/v1/stream` per second: these programs send small pieces, or files."""

TOKEN_PROTOCOL = "token"
"""Subprotocol of browsers, followed by the key."""

_MULTI = frozenset({"multi", AUTO})
_NO, _YES = frozenset({"false", "0", "no"}), frozenset({"", "true", "1", "yes"})


class _Control(msgspec.Struct):
    """A text frame of the client."""

    type: str = ""


_controls = msgspec.json.Decoder(_Control)


class Listen:
    """The doorman of `/v1/listen`; the sockets are those of `Streams`."""

    def __init__(self, streams: Streams, wall: Callable[[], float]) -> None:
        """`wall` gives Unix s."""
        self._streams = streams
        self._wall = wall

    async def doorman(self, request: UpgradeRequest) -> Welcome | Refusal:
        """Answer an upgrade request to `/v1/listen`."""
        request_id = request_id_of(request)
        try:
            start, endpointing_ms = start_of(request)
        except Problem as problem:
            return refusal(problem, request_id)
        created = rfc3339(int(self._wall() * 1000))
        dialect = ListenDialect(start, request_id, created, endpointing_ms)
        headers, offered = _with_bearer(request)
        answer = await self._streams.let_in(
            request, request_id, dialect, headers, lambda tenant: opening_of(start, tenant)
        )
        if isinstance(answer, Welcome):
            told = (*answer.headers, ("dg-request-id", request_id))
            return Welcome(answer.visitor, TOKEN_PROTOCOL if offered else answer.subprotocol, told)
        return answer


class ListenDialect:
    """How one socket speaks; mutable: how much audio came, and where utterances ended."""

    pace = PACE

    def __init__(self, start: Start, request_id: str, created: str, endpointing_ms: int) -> None:
        """`created` is an RFC 3339 time; with `endpointing_ms` of 0 silence ends nothing."""
        self.start: Start | None = start
        self._request_id = request_id
        self._created = created
        self._tgt_lang = ""
        self._bytes_per_s = 2 * (start.sample_rate or sound.SAMPLE_RATE)
        self._silence_bytes = endpointing_ms * self._bytes_per_s // 1000
        self._silent = 0
        """Bytes of silence since speech was heard."""
        self._speaking = False
        self._bytes = 0
        self._ends: dict[int, float] = {}
        self._last_end = 0.0
        self._finalizing = False

    def read(self, frame: str) -> StreamMessage:
        """The message that a control message stands for. Raises WireError."""
        try:
            kind = _controls.decode(frame).type
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise WireError(ErrorCode.INVALID_MESSAGE, "the message is not valid JSON") from None
        match kind:
            case "KeepAlive":
                return Ping()
            case "Finalize":
                self._finalizing = True
                return End()
            case "CloseStream":
                return End(close=True)
        sentence = "the type of the message is unknown; send KeepAlive, Finalize or CloseStream"
        raise WireError(ErrorCode.INVALID_MESSAGE, sentence, "type")

    def ends(self, frame: bytes) -> bool:
        """Whether an utterance ends with this audio: silence for long enough after speech."""
        self._bytes += len(frame)
        if not self._silence_bytes:
            return False
        heard = frame[: len(frame) & ~1][-self._bytes_per_s :]
        if sound.rms(heard) >= SILENCE_RMS:
            self._speaking, self._silent = True, 0
            return False
        self._silent += len(heard)
        if not self._speaking or self._silent < self._silence_bytes:
            return False
        self._speaking = False
        return True

    def write(self, message: StreamAnswer) -> str | None:
        """The text frame of a message; None if it is not told."""
        match message:
            case Started():
                self._tgt_lang = message.tgt_lang
                return None
            case Event(event="INPUT_ENDED"):
                self._ends[message.utterance_index] = self._seconds
                return None
            case Partial():
                return _text(self._results(message.text, self._last_end, self._seconds, is_final=False))
            case Final() | Empty():
                return _text(self._final(message))
            case Error():
                sentence = {"description": message.message, "message": message.message}
                return _text({"type": "Error", "variant": message.code, **sentence})
            case Ended():
                return _text(self._metadata(message))
        return None

    @property
    def _seconds(self) -> float:
        return self._bytes / self._bytes_per_s

    def _final(self, message: Final | Empty) -> dict[str, Any]:
        start = self._last_end
        end = self._last_end = max(start, self._ends.pop(message.utterance_index, self._seconds))
        results = self._results(
            message.text_asr if isinstance(message, Final) else "", start, end, is_final=True
        )
        results["from_finalize"], self._finalizing = self._finalizing, False
        if isinstance(message, Final):
            results["translation"] = {"text": message.text, "language": self._tgt_lang}
        return results

    def _results(self, transcript: str, start: float, end: float, *, is_final: bool) -> dict[str, Any]:
        alternative = {"transcript": transcript, "confidence": 1.0, "words": []}
        model = {"name": "linguad", "version": __version__, "arch": "linguad"}
        return {
            "type": "Results",
            "channel_index": [0, 1],
            "duration": round(max(0.0, end - start), 3),
            "start": round(start, 3),
            "is_final": is_final,
            "speech_final": is_final,
            "channel": {"alternatives": [alternative]},
            "metadata": {
                "request_id": self._request_id,
                "model_info": model,
                "model_uuid": "00000000-0000-0000-0000-000000000000",
            },
        }

    def _metadata(self, ended: Ended) -> dict[str, Any]:
        return {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self._request_id,
            "sha256": "",
            "created": self._created,
            "duration": round(ended.usage.audio_ms / 1000, 3),
            "channels": 1,
        }


def start_of(request: UpgradeRequest) -> tuple[Start, int]:
    """The session that a query asks for, and the silence that ends an utterance, ms.

    `tgt_lang` is ours. Raises Problem 415 or 422, which names the parameter.
    """
    encoding = _argument(request, "encoding", "linear16")
    if encoding != "linear16":
        raise Problem.wrong_field("encoding", "use linear16", "unsupported_audio_format", 415)
    if _argument(request, "channels", "1") != "1":
        raise Problem.wrong_field("channels", "use 1, one speaker per connection")
    language = _argument(request, "language", "")
    start = Start(
        src_lang=AUTO if language.lower() in _MULTI else language or None,
        tgt_lang=_argument(request, "tgt_lang", "") or None,
        sample_rate=_whole(request, "sample_rate", sound.SAMPLE_RATE),
        segmentation=STREAM,
        partials=_argument(request, "interim_results", "false").lower() in _YES,
        events=True,
        tts=False,
        binary_audio=True,
    )
    endpointing = _argument(request, "endpointing", "true").lower()
    if endpointing in _NO:
        return start, 0
    if endpointing in _YES:
        return start, ENDPOINTING_MS
    return start, _whole(request, "endpointing", ENDPOINTING_MS)


def _argument(request: UpgradeRequest, name: str, default: str) -> str:
    return next(iter(request.argument(name)), default).strip()


def _whole(request: UpgradeRequest, name: str, default: int) -> int:
    text = _argument(request, name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= 6):
        raise Problem.wrong_field(name, "is no whole number")
    return int(text)


def _with_bearer(request: UpgradeRequest) -> tuple[list[tuple[bytes, bytes]], bool]:
    """The headers with `Authorization: Token KEY` and the subprotocols `token, KEY` as the API knows keys.

    The second is whether it was the subprotocols.
    """
    offered = request.subprotocols
    by_protocol = len(offered) == 2 and offered[0] == TOKEN_PROTOCOL
    headers = []
    for name, value in request.headers:
        if name == b"sec-websocket-protocol" and by_protocol:
            name, value = b"authorization", b"Bearer " + offered[1].encode("latin-1", "replace")
        elif name == b"authorization" and value[:6].lower() == b"token ":
            value = b"Bearer " + value[6:].strip()
        headers.append((name, value))
    return headers, by_protocol


def _text(message: dict[str, Any]) -> str:
    return msgspec.json.encode(message).decode()
