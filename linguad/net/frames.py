"""WebSocket frames of the plain kind: a whole message of a client, or one of ours (RFC 6455, 5.2).

The library takes every frame through some twenty calls and four copies. Nearly all frames are plain, and
these take the short way here; all others (fragments, control frames, mistakes) stay its business.
"""

from __future__ import annotations

from enum import Enum

from linguad.octets import unmask

TEXT, BINARY = 0x81, 0x82
"""First bytes of a frame that is a whole message without extension."""

PING, PONG = 0x89, 0x8A
MASKED = 0x80
MAX_SHORT, MAX_MEDIUM = 125, 0xFFFF
"""Longest payloads whose length takes one byte, and three; above it takes nine."""


class Other(Enum):
    """What a buffer begins with that is no plain message."""

    PART = 1
    """The beginning of a plain frame."""
    CONTROL = 2
    """A whole ping or pong."""
    ODD = 3
    """Anything else."""


def framed(data: str | bytes) -> bytes:
    """The frame of a server's message: text of str, binary of bytes."""
    kind, payload = (TEXT, data.encode()) if isinstance(data, str) else (BINARY, data)
    size = len(payload)
    if size <= MAX_SHORT:
        return bytes((kind, size)) + payload
    if size <= MAX_MEDIUM:
        return bytes((kind, 126)) + size.to_bytes(2, "big") + payload
    return bytes((kind, 127)) + size.to_bytes(8, "big") + payload


def take(buffer: bytearray, longest: int) -> str | bytes | Other:
    """The message that a buffer of client's frames begins with, which is removed; else what is there instead.

    Messages of more than `longest` bytes are odd.
    """
    have = len(buffer)
    if have < 2:
        return Other.PART
    kind, size = buffer[0], buffer[1] - MASKED
    if kind != TEXT and kind != BINARY:
        if kind not in (PING, PONG) or not 0 <= size <= MAX_SHORT:
            return Other.ODD
        return Other.CONTROL if have >= 6 + size else Other.PART
    head, shortest = 2, 0
    if size > MAX_SHORT:
        head, shortest = (4, MAX_SHORT + 1) if size == 126 else (10, MAX_MEDIUM + 1)
        if have < head:
            return Other.PART
        size = int.from_bytes(buffer[2:head], "big")
    if not shortest <= size <= longest:
        return Other.ODD
    start = head + 4
    end = start + size
    if have < end:
        return Other.PART
    message: str | bytes = unmask(buffer[start:end], buffer[head:start])
    if kind == TEXT:
        try:
            message = message.decode()  # type: ignore[union-attr]
        except UnicodeDecodeError:
            return Other.ODD
    del buffer[:end]
    return message


def take_control(buffer: bytearray) -> bytes:
    """The control frame that a buffer begins with, which is removed."""
    end = 6 + buffer[1] - MASKED
    frame = bytes(buffer[:end])
    del buffer[:end]
    return frame
