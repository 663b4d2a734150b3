"""Plan A, the packet stream that real clients and nodes speak (session-protocol 1.7.1).

A payload is a run of records: a 2-byte little-endian length, then one Opus packet of 20 ms at 16 kHz mono.
Nothing here decodes audio; see `linguad.audio` for that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from linguad import octets

PACKET_MS = 20
"""Duration of one packet."""

MAX_PACKET_BYTES = 4096
"""Real nodes refuse longer packets."""

MAX_LEGAL_PACKET_BYTES = 1275
"""Longest packet a real Opus encoder makes for one frame; used to tell Plan A from PCM."""


class Walk(NamedTuple):
    """Result of walking a payload: whole records, and the length in bytes of the prefix they fill."""

    packets: int
    good_bytes: int


def walk(payload: bytes | bytearray | memoryview, limit: int = MAX_PACKET_BYTES, most: int = 2**62) -> Walk:
    """Count the records of a payload, at most so many; an impossible length ends the walk there."""
    return Walk._make(octets.walk(payload, limit, most))


def looks_like_plan_a(payload: bytes) -> bool:
    """Whether a first payload parses completely as Plan A (session-protocol 1.7.2, sniffing)."""
    return bool(payload) and walk(payload, MAX_LEGAL_PACKET_BYTES).good_bytes == len(payload)


def packets(payload: bytes) -> Iterator[bytes]:
    """The Opus packets of a payload, up to its first malformed record."""
    position, end = 0, walk(payload).good_bytes
    while position < end:
        start = position + 2
        position = start + (payload[position] | payload[position + 1] << 8)
        yield payload[start:position]


def join(opus_packets: list[bytes]) -> bytes:
    """The payload that holds these packets; empty packets are left out, as real encoders do."""
    return b"".join(len(packet).to_bytes(2, "little") + packet for packet in opus_packets if packet)
