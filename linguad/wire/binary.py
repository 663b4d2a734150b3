"""Audio in binary frames, protocol "2.0" (session-protocol 1.7.3); everything else stays JSON.

Frames begin with a type, the length of the session id, the sequence number and the low 32 bits of the
sender's epoch in ms, all little-endian; then the flag for a final (audio only), the session id and the audio.
"""

from __future__ import annotations

import struct

from msgspec import Struct

from linguad.errors import ErrorCode, WireError

AUDIO_CHUNK, FINAL = 0x01, 0x02
PING, PONG = 0x10, 0x11

_AUDIO = struct.Struct("<BBIIBB")
_FINAL = struct.Struct("<BBII")
_MS = 2**32
"""The time stamp counts modulo this."""


class AudioFrame(Struct, frozen=True):
    """One binary frame: audio (Plan A or PCM16, may be empty) and whether the utterance is complete."""

    session_id: str
    seq: int
    audio: bytes
    is_final: bool
    client_timestamp_ms: int
    """Epoch ms of the sender."""


def decode(frame: bytes, now_ms: int) -> AudioFrame | None:
    """The audio in a frame, None if it is a reserved one without any; `now_ms` is our epoch in ms.

    Raises WireError if it is no frame of this protocol.
    """
    kind = frame[0] if frame else 0
    if kind in (PING, PONG):
        return None
    head = {AUDIO_CHUNK: _AUDIO, FINAL: _FINAL}.get(kind)
    if head is None:
        raise WireError(
            ErrorCode.INVALID_MESSAGE, "a binary frame must be audio (type 1) or a final (2)", "type"
        )
    if len(frame) < head.size or len(frame) < head.size + frame[1]:
        raise WireError(ErrorCode.INVALID_MESSAGE, "a binary frame ends inside its head", "session_id")
    _, length, seq, low_ms, *rest = head.unpack_from(frame)
    end = head.size + length
    try:
        session_id = frame[head.size : end].decode()
    except UnicodeDecodeError:
        raise WireError(ErrorCode.INVALID_MESSAGE, "member session_id is not UTF-8", "session_id") from None
    return AudioFrame(
        session_id=session_id,
        seq=seq,
        audio=frame[end:] if kind == AUDIO_CHUNK else b"",
        is_final=kind == FINAL or bool(rest[0]),
        client_timestamp_ms=_nearest(low_ms, now_ms),
    )


def encode(frame: AudioFrame) -> bytes:
    """The bytes of a frame; a final without audio is a FINAL frame, as web clients send it."""
    session_id, low_ms = frame.session_id.encode(), frame.client_timestamp_ms % _MS
    if frame.is_final and not frame.audio:
        return _FINAL.pack(FINAL, len(session_id), frame.seq, low_ms) + session_id
    head = _AUDIO.pack(AUDIO_CHUNK, len(session_id), frame.seq, low_ms, frame.is_final, 0)
    return head + session_id + frame.audio


def _nearest(low_ms: int, now_ms: int) -> int:
    """The time with these low bits that is nearest to ours."""
    ahead = (low_ms - now_ms) % _MS
    return now_ms + ahead - (_MS if ahead > _MS // 2 else 0)
