"""The plain-Python twin of `_bytes`: slower, the same results."""

from __future__ import annotations

Buffer = bytes | bytearray | memoryview


def walk(payload: Buffer, limit: int, most: int) -> tuple[int, int]:
    """Count the records of a Plan A payload; see `wire.opus.walk`."""
    position, packets, end = 0, 0, len(payload)
    while position + 2 <= end and packets < most:
        length = payload[position] | payload[position + 1] << 8
        after = position + 2 + length
        if not 0 < length <= limit or after > end:
            break
        position = after
        packets += 1
    return packets, position


def unmask(payload: Buffer, mask: Buffer) -> bytes:
    """Every byte of a WebSocket payload combined with the one of its mask of four bytes."""
    if len(mask) != 4:
        raise ValueError("a mask has four bytes")
    result = bytearray(payload)
    for offset, key in enumerate(mask):
        result[offset::4] = result[offset::4].translate(_COMBINED[key])
    return bytes(result)


_COMBINED = [bytes(byte ^ key for byte in range(256)) for key in range(256)]
