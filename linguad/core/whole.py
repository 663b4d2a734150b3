"""What clients say of their audio, and the audio of whole utterances (session-protocol 1.7, 2.2.3)."""

from __future__ import annotations

from linguad.core.sound import OPUS, PCM16, SAMPLE_RATE
from linguad.core.utterance import Audio
from linguad.errors import ErrorCode, WireError
from linguad.octets import from_base64
from linguad.wire import opus
from linguad.wire.session import SessionInit, Utterance

MAX_LANGUAGE_CHARS = 64
"""Far longer than any language tag; what is remembered of an utterance stays small."""


MIN_RATE, MAX_RATE = 8_000, 192_000
"""Sample rates of whole utterances, Hz."""


def audio_of(message: Utterance, max_s: float) -> Audio:
    """The audio of a message, with its duration; at most `max_s` seconds.

    Raises WireError, naming the member, if it cannot be used.
    """
    if message.audio_format not in (OPUS, PCM16):
        raise _bad("audio_format", "must be opus or pcm16")
    if not MIN_RATE <= message.sample_rate <= MAX_RATE:
        raise _bad("sample_rate", f"must be from {MIN_RATE} to {MAX_RATE}")
    for field, language in (("src_lang", message.src_lang), ("tgt_lang", message.tgt_lang)):
        if len(language) > MAX_LANGUAGE_CHARS:
            raise _bad(field, "is no language")
    try:
        data = from_base64(message.audio)
    except ValueError:
        raise _bad("audio", "is not base64") from None
    max_ms = int(max_s * 1000)
    if message.audio_format == OPUS:
        packets = opus.walk(data, most=max_ms // opus.PACKET_MS + 1).packets
        duration_ms = packets * opus.PACKET_MS
    else:
        duration_ms = len(data) // 2 * 1000 // message.sample_rate
    if duration_ms > max_ms:
        raise _bad("audio", f"is longer than {max_s:g} s")
    return Audio(message.audio, message.audio_format, message.sample_rate, duration_ms)


def check_chunks(init: SessionInit) -> None:
    """Raises WireError, naming the member, if chunks such as a session announces cannot be taken."""
    if init.audio_format not in (None, OPUS, PCM16):
        raise _bad("audio_format", "must be opus or pcm16")
    if init.sample_rate not in (None, SAMPLE_RATE):
        raise _bad("sample_rate", f"must be {SAMPLE_RATE}; utterance messages may have another one")


def _bad(field: str, problem: str) -> WireError:
    return WireError(ErrorCode.INVALID_MESSAGE, f"member {field} {problem}", field)
