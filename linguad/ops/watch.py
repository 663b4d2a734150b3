"""Looks at the daemon once a second: for dashboards, for the history of a day, for the lag of its loop."""

from __future__ import annotations

import trio

from linguad import metrics
from linguad.core.steps import Steps
from linguad.ops.gauges import GAUGES, WINDOW_S, Meter
from linguad.ops.history import History
from linguad.ops.instance import Instance
from linguad.ops.live import Live
from linguad.ops.overview import overview
from linguad.ops.snapshot import Snapshot
from linguad.ops.stats import Stats, stats

SAMPLE_SECONDS = 0.1
"""How often the lag of the event loop is sampled."""


class Watch:
    """Mutable state: what is known of the last minute and of the last day."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self.meter = Meter(instance)
        self.history = History(list(GAUGES))
        self.snapshot = Snapshot(self._count, instance.now)
        self.live = Live(self._overview)

    async def run(self) -> None:
        """Look, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.snapshot.run)
            nursery.start_soon(self._sample_lag)
            nursery.start_soon(self._tick)

    def close(self) -> None:
        """The daemon stops: nobody is told more."""
        self.live.close()

    async def _tick(self) -> None:
        seconds = 0
        while True:
            await trio.sleep(1.0)
            seconds += 1
            self.meter.tick()
            self.live.tick()
            if seconds % WINDOW_S == 0:
                self.history.add(self.meter.read(), self._instance.epoch_ms(self._instance.now()))

    async def _sample_lag(self) -> None:
        durations = metrics.LOOP_LAG[""]
        while True:
            due = trio.current_time() + SAMPLE_SECONDS
            await trio.sleep_until(due)
            lag_s = max(0.0, trio.current_time() - due)
            durations.observe(lag_s)
            self.meter.lag_s = max(self.meter.lag_s, lag_s)

    def _count(self) -> Steps[Stats]:
        instance = self._instance
        seen = instance.sessions_seen()
        nodes = list(instance.dispatch.fleet.nodes.values())
        requests = [one.session.request for one in seen]
        return stats(requests, instance.session_counts()[0], nodes, instance.services.listed())

    def _overview(self) -> dict[str, object]:
        now = self._instance.now()
        return overview(self._instance, self.meter, self.snapshot.stats, now)
