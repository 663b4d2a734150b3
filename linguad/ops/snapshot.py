"""What is counted in the background and told at once: readers never wait, and cause next to no work (7.2)."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf

import msgspec
import trio

from linguad import log, metrics
from linguad.core.steps import Steps
from linguad.ops.stats import Stats
from linguad.ops.steps import patiently

STATS_SECONDS = 5.0
"""How often the statistics are counted."""

STALE_SECONDS = 10.0

TRIGGER_SECONDS = 30.0
"""How often requests may have them counted before they were for the first time."""

logger = log.get(__name__)


class Snapshot:
    """Mutable state: the statistics as they were counted last, as JSON."""

    def __init__(self, count: Callable[[], Steps[Stats]], now: Callable[[], float]) -> None:
        """`count` begins a count; `now` is the clock, monotonic s."""
        self._count = count
        self._now = now
        self._counted_at = -inf
        self._building = False
        self._triggered_at = -inf
        self._trigger = trio.Event()
        self.stats = Stats()
        self.json = msgspec.json.encode(self.stats)
        """The body of the answer; before the first count everything in it is zero."""
        self.updated_at_ms = 0
        """Unix time of the last count, ms; 0 for never."""
        metrics.STATS_AGE.set_function(self._age_for_metrics)

    def _age_for_metrics(self) -> float:
        return max(0.0, time.time() - self.updated_at_ms / 1000) if self.updated_at_ms else 0.0

    @property
    def age_s(self) -> float:
        """How long ago it was counted; infinite if never."""
        return self._now() - self._counted_at

    @property
    def stale(self) -> bool:
        """Whether that is too long ago."""
        return self.age_s > STALE_SECONDS

    async def run(self) -> None:
        """Count again and again, at once for the first time."""
        while True:
            await self.build()
            with trio.move_on_after(STATS_SECONDS):
                await self._trigger.wait()
            self._trigger = trio.Event()

    def ask(self) -> None:
        """Somebody reads it: if it was never counted, have that done, now and then."""
        now = self._now()
        if self._counted_at == -inf and now - self._triggered_at >= TRIGGER_SECONDS:
            self._triggered_at = now
            self._trigger.set()

    async def build(self) -> None:
        """Count once; what fails leaves the last one as it is."""
        if self._building:
            return
        self._building = True
        try:
            found = await patiently(self._count())
            self.stats, self.json = found, msgspec.json.encode(found)
            self._counted_at, self.updated_at_ms = self._now(), int(time.time() * 1000)
        except Exception as error:
            logger.error("stats_failed", exc_info=error)
        finally:
            self._building = False
