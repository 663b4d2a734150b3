"""Sound that can be counted: every packet bears its number and whether it is silence.

A simulated node "recognises" the numbers, so what was spoken and what was read can be compared to the packet.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable
from functools import cache, lru_cache

from linguad.wire import opus


@cache
def packet(number: int, silent: bool) -> bytes:
    """20 ms of sound."""
    return number.to_bytes(4, "big") + bytes([silent])


def encode(packets: list[bytes]) -> str:
    """Packets as they travel."""
    return b64encode(opus.join(packets)).decode()


@lru_cache(64)
def decode(audio: str) -> list[bytes]:
    """Packets that travelled."""
    return list(opus.packets(b64decode(audio)))


def is_silent(packets: Iterable[bytes]) -> bool:
    """Whether nothing was said."""
    return all(packet[4] for packet in packets)


def number(packet: bytes) -> int:
    """Which one it is."""
    return int.from_bytes(packet[:4], "big")


def overlap(one: range, other: range) -> bool:
    """Whether some numbers are in both."""
    return one.start < other.stop and other.start < one.stop


def numbers(packets: Iterable[bytes]) -> list[int]:
    """Who is in there."""
    return [number(packet) for packet in packets]


def text_of(packets: Iterable[bytes]) -> str:
    """What a node reads in the packets: their numbers as ranges, `3-15,20-20`."""
    ranges: list[list[int]] = []
    for number in sorted(numbers(packets)):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{first}-{last}" for first, last in ranges)


def read(text: str) -> set[int]:
    """The numbers in a text."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last) + 1))
    return found
