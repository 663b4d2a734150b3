"""The trio tasks of an engine: its timer, its look at silent nodes, the wait for its last job."""

from __future__ import annotations

import trio

from linguad.dispatch.engine import Engine
from linguad.net.supervise import Alarm


class EngineTasks:
    """What makes time pass for an engine; the decisions are all in the engine."""

    def __init__(self, engine: Engine, scan_interval_s: float) -> None:
        self._engine = engine
        self._scan_interval_s = scan_interval_s
        self._alarm = Alarm(engine.due, engine.tick)
        self._idle: trio.Event | None = None
        engine.when_changed(self._look)

    async def serve(self) -> None:
        """Keep the core's deadlines and look after silent nodes, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._alarm.run)
            nursery.start_soon(self._scan)

    async def wait_idle(self) -> None:
        """Return as soon as no job is open; for the end of the daemon."""
        self._idle = trio.Event()
        if self._engine.open_jobs:
            await self._idle.wait()

    def _look(self) -> None:
        self._alarm.moved()
        if self._idle is not None and not self._engine.open_jobs:
            self._idle.set()

    async def _scan(self) -> None:
        while True:
            await trio.sleep(self._scan_interval_s)
            self._engine.scan()
