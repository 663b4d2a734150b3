"""Counts what is used: what nodes report, and downloads that the hub itself completed (model-hub 11.6)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Protocol

import trio

from linguad import log
from linguad.core.accounts import Actor, AuditRecord
from linguad.core.hub_usage import Kind, UsageEvent, UsageHour
from linguad.errors import LinguadError
from linguad.hub.access import Who

FLUSH_SECONDS = 5.0
"""How long completed downloads wait to be written together."""

FORGET_SECONDS = 3600.0
MAX_WAITING = 10_000
"""Events that wait while the store is away; then the oldest are lost."""

MAX_TRACKED = 50_000
"""Files that are followed until their versions are complete; then the oldest downloads are forgotten."""

MAX_PIECES = 64
"""Pieces of one file that are known; who fetches it in more does not want the whole of it."""

logger = log.get(__name__)


class Records(Protocol):
    """The part of the store that belongs to the hub; times are Unix seconds."""

    async def count(self, events: Sequence[UsageEvent]) -> int:
        """Count events, each id once; how many of them were new."""

    async def ranking(self, kind: Kind, metric: str, since: float) -> list[tuple[str, int]]:
        """Ids with how often they were used, most first."""

    async def series(self, kind: Kind, name: str, since: float, until: float) -> list[UsageHour]:
        """Use of one model or service hour by hour."""

    async def forget(self, now: float) -> None:
        """Drop what is too old to be needed."""

    async def note(
        self, actor: Actor, action: str, target: str, payload: Mapping[str, object], now: float
    ) -> None:
        """Keep who decided what."""

    async def trail(self, since: float | None, limit: int) -> list[AuditRecord]:
        """What was decided, the latest first."""


class Spans:
    """Which bytes were sent, as intervals that do not touch."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []

    def add(self, start: int, end: int) -> None:
        """Bytes from `start` up to `end`."""
        apart = []
        for span in self._spans:
            if span[1] < start or span[0] > end:
                apart.append(span)
            else:
                start, end = min(start, span[0]), max(end, span[1])
        self._spans = sorted([*apart, (start, end)])[-MAX_PIECES:]

    def whole(self, size: int) -> bool:
        """Whether all of a file of this size was sent."""
        return size == 0 or self._spans == [(0, size)]


class Usage:
    """Follows downloads and writes what is complete."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._open: dict[tuple[str, str, str, str, int], dict[str, Spans]] = {}
        self._tracked = 0
        """Files in `_open`."""
        self._done: dict[tuple[str, str, str, str, int], None] = {}
        self._waiting: list[UsageEvent] = []

    def sent(
        self,
        who: Who,
        kind: Kind,
        name: str,
        version: str,
        path: str,
        span: tuple[int, int],
        sizes: Mapping[str, int],
    ) -> None:
        """Bytes of a file were sent; once all of all files were, it is a download, one per caller and day."""
        now = time.time()
        key = (who.name, kind, name, version, int(now // 86400))
        if key in self._done:
            return
        files = self._open.pop(key, {})
        self._open[key] = files
        self._tracked += path not in files
        files.setdefault(path, Spans()).add(*span)
        if all(size == 0 or (path in files and files[path].whole(size)) for path, size in sizes.items()):
            self._forget_download(key)
            _remember(self._done, key)
            event = UsageEvent(
                event_id=str(uuid.uuid4()), type="download", kind=kind, name=name, version=version, at=now
            )
            self._waiting = [*self._waiting[-MAX_WAITING:], event]
        elif self._tracked > MAX_TRACKED:
            self._forget_download(next(iter(self._open)))

    async def run(self) -> None:
        """Write what is complete, for ever; once more when cancelled."""
        forgotten_at = trio.current_time()
        try:
            while True:
                await trio.sleep(FLUSH_SECONDS)
                await self.flush()
                if trio.current_time() >= forgotten_at + FORGET_SECONDS:
                    forgotten_at = trio.current_time()
                    await self._forget_old()
        finally:
            with trio.move_on_after(FLUSH_SECONDS, shield=True):
                await self.flush()

    async def flush(self) -> None:
        """Write what is complete now."""
        events, self._waiting = self._waiting, []
        if not events:
            return
        try:
            await self._records.count(events)
        except LinguadError as error:
            logger.warning("hub_usage_unwritten", events=len(events), reason=str(error))
            self._waiting = events + self._waiting

    async def _forget_old(self) -> None:
        try:
            await self._records.forget(time.time())
        except LinguadError as error:
            logger.warning("hub_usage_not_dropped", reason=str(error))

    def _forget_download(self, key: tuple[str, str, str, str, int]) -> None:
        self._tracked -= len(self._open.pop(key))


def _remember(done: dict[tuple[str, str, str, str, int], None], key: tuple[str, str, str, str, int]) -> None:
    if len(done) >= MAX_TRACKED:
        del done[next(iter(done))]
    done[key] = None
