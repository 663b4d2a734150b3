"""The frame of a WAV file: chunks of four letters, a 32-bit little-endian size, and the content.

Sizes are what programs get wrong: a program that writes to a pipe leaves 0, 0xFFFFFFFF or a guess.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_CHUNK = struct.Struct("<4sI")
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_FORMAT = struct.Struct("<HHIIHH")
_PCM = 1
_MOST = 0xFFFFFFFF

_CONTAINERS = (b"RIFF", b"RIFX", b"RF64")
"""Little-endian, big-endian, and with 64-bit sizes."""

MAX_CHUNKS = 1000
"""Chunks that are looked at; honest files have fewer than twenty."""


def is_wav(data: bytes) -> bool:
    """Whether a file calls itself a WAV file (gateway 5.1)."""
    return data[:4] in _CONTAINERS and data[8:12] == b"WAVE"


class Plain(NamedTuple):
    """The content of the plainest WAV file: mono PCM16 and its rate in Hz."""

    rate: int
    pcm16: bytes


def plain(data: bytes) -> Plain | None:
    """What is in a WAV file of mono PCM16 with true sizes, as most are; None for any other."""
    if data[:4] != b"RIFF" or not is_wav(data):
        return None
    position, rate = 12, 0
    for _ in range(MAX_CHUNKS):
        start = position + _CHUNK.size
        if start > len(data):
            return None
        name, size = _CHUNK.unpack_from(data, position)
        if size > len(data) - start:
            return None
        if name == b"fmt ":
            if size < _FORMAT.size:
                return None
            tag, channels, rate, _, frame_bytes, bits = _FORMAT.unpack_from(data, start)
            if (tag, channels, frame_bytes, bits) != (_PCM, 1, 2, 16):
                return None
        elif name == b"data":
            return Plain(rate, data[start : start + (size & ~1)]) if rate else None
        position = start + size + (size & 1)
    return None


def header(size: int, rate: int) -> bytes:
    """What stands before `size` bytes of PCM16 at `rate` Hz; a size beyond 4 GiB is written as endless."""
    whole = min(_MOST, size + _HEADER.size - _CHUNK.size)
    return _HEADER.pack(
        b"RIFF", whole, b"WAVE", b"fmt ", 16, _PCM, 1, rate, rate * 2, 2, 16, b"data", min(_MOST, size)
    )


def repaired(data: bytes) -> bytes:
    """The same file with sizes that are true, as far as it is a WAV file whose chunks can be followed.

    The sound of a `data` chunk reaches to the end of the file if its size says more than there is, or nothing
    although no other chunk follows. Whatever else is wrong stays so; libsndfile refuses it.
    """
    if data[:4] != b"RIFF" or not is_wav(data):
        return data
    position = 12
    for _ in range(MAX_CHUNKS):
        if position + _CHUNK.size > len(data):
            return data
        name, size = _CHUNK.unpack_from(data, position)
        rest = len(data) - position - _CHUNK.size
        if name == b"data":
            true = (
                rest if size > rest or (size == 0 and not _is_chunk(data, position + _CHUNK.size)) else size
            )
            sizes = _CHUNK.pack(b"RIFF", len(data) - _CHUNK.size), _CHUNK.pack(b"data", true)
            if data.startswith(sizes[0]) and true == size:
                return data
            return b"".join(
                (sizes[0], data[_CHUNK.size : position], sizes[1], data[position + _CHUNK.size :])
            )
        # Chunks begin at even positions; the padding byte is not counted.
        position += _CHUNK.size + size + (size & 1)
    return data


def _is_chunk(data: bytes, position: int) -> bool:
    """Whether a chunk with a printable name and a size that fits stands there."""
    if position + _CHUNK.size > len(data):
        return False
    name, size = _CHUNK.unpack_from(data, position)
    return all(32 <= letter < 127 for letter in name) and size <= len(data) - position - _CHUNK.size
