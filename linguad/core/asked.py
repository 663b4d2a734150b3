"""Whose outcome counts for an index, which may be sent again while an earlier job still runs (5.2, 1.11)."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from linguad.core.job import JobRequest

MAX_REMEMBERED = 512
"""Indexes whose last request is known after its end; answers of nodes do not come that late."""

Slot = tuple[int, str]
"""An index and a language."""


class Asked(Struct):
    """The last request of a slot, and whether its text was told."""

    request: JobRequest
    told: bool = False

    def is_it(self, request: JobRequest) -> bool:
        """Whether this is the last request, not an earlier one."""
        return self.request.utterance_trace == request.utterance_trace


class Requested:
    """Mutable state of one session: its requests without outcome, and the last ones that have one."""

    def __init__(self, *, one_each: bool) -> None:
        """With `one_each` an index has one outcome for each time it was sent, and none later."""
        self._one_each = one_each
        self._open: dict[Slot, JobRequest] = {}
        self._last: dict[Slot, Asked] = {}

    def __len__(self) -> int:
        """Requests without outcome."""
        return len(self._open)

    @property
    def open(self) -> Iterable[JobRequest]:
        """Them."""
        return self._open.values()

    def waiting(self, index: int, tgt_lang: str) -> JobRequest | None:
        """The request of this slot that has no outcome yet."""
        return self._open.get((index, tgt_lang))

    def add(self, request: JobRequest) -> None:
        """A request is submitted; what comes of earlier ones of its slot only counts for the same sound."""
        slot = request.utterance_index, request.tgt_lang
        self._open[slot] = request
        self._last.pop(slot, None)
        self._last[slot] = Asked(request)
        if len(self._last) > MAX_REMEMBERED:
            del self._last[next(iter(self._last))]

    def drop(self, index: int, tgt_lang: str) -> None:
        """What was asked for in this slot is not waited for any more."""
        self._open.pop((index, tgt_lang), None)

    def take(self, request: JobRequest, *, has_text: bool) -> bool:
        """Whether an outcome of this request is for the client; it is taken as told."""
        slot = request.utterance_index, request.tgt_lang
        last, is_open = self._last.get(slot), slot in self._open
        if last is None or not last.is_it(request):
            counts = last is None or (has_text and not last.told and last.request.sound == request.sound)
            counts = counts and (is_open or not self._one_each)
        else:
            counts = is_open or not (last.told or self._one_each)
        if counts:
            self._open.pop(slot, None)
            if last is not None:
                last.told = last.told or has_text
        return counts
