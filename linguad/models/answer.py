"""What an answer to a request for the rest of a file means (model-manager 4.3): one pure decision."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""States that may be over in a moment."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})

MAX_RETRY_AFTER_SECONDS = 60.0
"""A server that asks for more patience is asked again after this."""

_RANGE = re.compile(r"bytes (?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19}|\*)")


class Step(Enum):
    """What to do next."""

    APPEND = auto()
    """The body continues the part."""
    REWRITE = auto()
    """The body is the whole file: empty the part, then write."""
    RESTART = auto()
    """The part is of no use: empty it and ask anew, once."""
    DONE = auto()
    """There is nothing more to be had; the part is complete."""
    REDIRECT = auto()
    RETRY = auto()
    REFUSED = auto()
    """Asking again does not help."""
    MISSING = auto()
    """The hub does not have the file."""


class Verdict(NamedTuple):
    """A step, and what it needs."""

    step: Step
    retry_after: float = 0.0
    """The least pause before the next attempt, s."""
    location: str = ""
    """Where to, for REDIRECT."""


def judge(start: int, size: int, status: int, headers: Mapping[str, str], etag: str | None = None) -> Verdict:
    """What to do with an answer, when `start` of `size` bytes were there and the rest was asked for.

    `headers` have lower-case names; `etag` is the validator of what is there. A body whose announced length
    is wrong is not read at all.
    """
    if headers.get("content-encoding", "identity") != "identity":
        # Offsets count the bytes of the file, not those of some packed form of it.
        return Verdict(Step.REFUSED)
    if status == 206:
        first, last, total = content_range(headers.get("content-range", ""))
        right = (first, last) == (start, size - 1) and total in (size, None)
        same = headers.get("etag", etag) == etag or etag is None
        return Verdict(Step.APPEND if right and same and start else Step.RESTART)
    if status == 200:
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > size:
            return Verdict(Step.REFUSED)
        return Verdict(Step.REWRITE)
    if status == 416:
        *_, total = content_range(headers.get("content-range", ""))
        return Verdict(Step.DONE if total == size == start else Step.RESTART)
    if status in (404, 410):
        return Verdict(Step.MISSING)
    if status in REDIRECTS and headers.get("location"):
        return Verdict(Step.REDIRECT, location=headers["location"])
    if status in RETRIED:
        return Verdict(Step.RETRY, retry_after=retry_after(headers.get("retry-after", "")))
    return Verdict(Step.REFUSED)


def content_range(text: str) -> tuple[int | None, int | None, int | None]:
    """First byte, last byte and size of a Content-Range; None where it does not tell."""
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        return None, None, None
    first, last, total = (int(word) if word and word != "*" else None for word in found.groups())
    return first, last, total


def retry_after(text: str) -> float:
    """Seconds that a server asks to wait, capped; 0 if it says nothing that is a number."""
    return min(float(text), MAX_RETRY_AFTER_SECONDS) if text.isascii() and text.isdecimal() else 0.0


class Ladder:
    """How often a file is tried, and the pause before each try (model-manager 4.3).

    Progress counts: an attempt that moved enough starts the ladder anew, within a hard limit.
    """

    DELAYS = (1.0, 2.0, 5.0)
    """Pauses before the retries, s."""
    JITTER = 0.2
    ENOUGH_BYTES = 16 << 20
    """An attempt that moved so much is no failure of the line as such."""
    MAX_ATTEMPTS = 20

    def __init__(self) -> None:
        self._failures = 0
        self._attempts = 0

    def pause(self, moved: int, asked: float, chance: float) -> float | None:
        """Seconds until the next attempt, None if there is none.

        `moved` are the bytes of the failed one, `asked` its Retry-After, `chance` a number from 0 to 1.
        """
        self._attempts += 1
        self._failures = 1 if moved >= self.ENOUGH_BYTES else self._failures + 1
        if self._failures > len(self.DELAYS) or self._attempts >= self.MAX_ATTEMPTS:
            return None
        spread = 1 + self.JITTER * (2 * chance - 1)
        return max(self.DELAYS[self._failures - 1] * spread, asked)
