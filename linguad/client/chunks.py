"""Speech as real clients cut and encode it (session-protocol 1.7, 1.9)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Literal

from linguad import audio
from linguad.wire import opus

CHUNK_SAMPLES = 4096
"""Samples in a chunk, 256 ms: what a browser captures at a time (session-protocol 1.9)."""

CHUNK_BYTES = 2 * CHUNK_SAMPLES
"""The same as PCM16."""

_PACKET_BYTES = 2 * audio.PACKET_SAMPLES
_PACKETS_PER_CHUNK = -(-CHUNK_BYTES // _PACKET_BYTES)

AudioFormat = Literal["pcm16", "opus"]


def split(samples: bytes) -> list[bytes]:
    """PCM16 in chunks."""
    return [samples[at : at + CHUNK_BYTES] for at in range(0, len(samples), CHUNK_BYTES)]


def encode_chunks(samples: bytes) -> list[bytes]:
    """The chunks of PCM16 (16 kHz mono) as Plan A payloads, each padded to whole packets as a browser's are.

    For a worker thread, like all of `linguad.audio`.
    """
    padded = b"".join(chunk + bytes(-len(chunk) % _PACKET_BYTES) for chunk in split(samples))
    return list(_groups(opus.packets(audio.encode_plan_a(padded, audio.WIRE_RATE))))


def _groups(packets: Iterator[bytes]) -> Iterator[bytes]:
    while group := list(islice(packets, _PACKETS_PER_CHUNK)):
        yield opus.join(group)
