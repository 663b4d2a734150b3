"""What can be told of streamed audio without decoding it (session-protocol 1.7)."""

from __future__ import annotations

from operator import mul
from struct import unpack
from typing import NamedTuple

from linguad.wire import opus

OPUS, PCM16 = "opus", "pcm16"
SAMPLE_RATE = 16000
"""Hz; the only rate of streamed audio."""

BYTES_PER_MS = SAMPLE_RATE * 2 // 1000
"""Of PCM16."""

_SNIFFED_BYTES = 64 * 1024
"""So much of a first payload tells its format: no PCM passes for records over that length."""


def format_of(payload: bytes) -> str:
    """The format that a first payload tells of all that follow (1.7.2)."""
    if len(payload) <= _SNIFFED_BYTES:
        return OPUS if opus.looks_like_plan_a(payload) else PCM16
    good = opus.walk(payload[:_SNIFFED_BYTES], opus.MAX_LEGAL_PACKET_BYTES).good_bytes
    return OPUS if good >= _SNIFFED_BYTES - opus.MAX_LEGAL_PACKET_BYTES - 2 else PCM16


class Usable(NamedTuple):
    """What can be used of a payload: so many bytes from its start, and the Plan A records in them."""

    size: int
    packets: int
    overlong: bool
    """Whether it has more audio than it may; the rest is not used."""


def usable(audio_format: str, payload: bytes, max_ms: int) -> Usable:
    """How much of a payload is good audio, and no more than `max_ms`."""
    if audio_format == OPUS:
        most = max_ms // opus.PACKET_MS
        packets, good = opus.walk(payload, most=most)
        return Usable(good, packets, packets == most and good < len(payload))
    good = min(len(payload) & ~1, max_ms * BYTES_PER_MS)
    return Usable(good, 0, len(payload) - good > 1)


def milliseconds(audio_format: str, packets: int, size: int) -> int:
    """How long so many packets of Opus are, or so many bytes of PCM16."""
    return packets * opus.PACKET_MS if audio_format == OPUS else size // BYTES_PER_MS


def mean_packet_bytes(data: bytes, packets: int) -> float:
    """Average length of so many packets in whole Plan A records; 0 of none."""
    return len(data) / packets - 2 if packets else 0.0


def rms(data: bytes) -> float:
    """Root mean square of whole samples of PCM16, full scale being 1; 0 of none."""
    samples = unpack(f"<{len(data) // 2}h", data)
    square: int = sum(map(mul, samples, samples))
    return (square / len(samples)) ** 0.5 / 32768 if samples else 0.0
