"""The daemon's process in a simulated world: its clock, its timers, and the times when it stands still."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from math import inf
from typing import Any

from .world import World

MAX_RUNG = 1_000
"""Timers that ring at one time; more are a loop without end."""

Step = tuple[Callable[..., None], tuple[Any, ...]]


@dataclass
class Alarm:
    """A deadline that moves, as `net.supervise.Alarm`."""

    due: Callable[[], float | None]
    fire: Callable[[float], object]
    set_to: float = inf


class Process:
    """One thing happens after another; what comes while it stands still waits, as in a socket's buffer."""

    def __init__(self, world: World) -> None:
        self.behind = False
        """It stood still and has not yet done all that came meanwhile."""
        self.caught_up_at = 0.0
        """When it last went on after it had stood still, on its clock."""
        self.lost_s = 0.0
        """How long it stood still in all."""
        self.dead = False
        """It was killed: nothing happens in it any more."""
        self._world = world
        self._ahead_s = 0.0
        self._still = False
        self._unread: list[Step] = []
        self._timers: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = count()
        self._wakes_at = inf
        self._alarms: list[Alarm] = []
        self._inspect: Callable[[], object] = lambda: None

    def now(self) -> float:
        """Its clock, monotonic s."""
        return self._world.now + self._ahead_s

    def say(self, what: str) -> None:
        """A line of the event log."""
        self._world.say("linguad", what)

    def inspect(self, do: Callable[[], object]) -> None:
        """Say what is to be done after everything that happens."""
        self._inspect = do

    def reach(self, do: Callable[..., None], *args: Any) -> None:
        """Something comes from outside: it happens now, or as soon as the process goes on."""
        if self.dead:
            return
        if self._still:
            self._unread.append((do, args))
        else:
            self._step(do, args)

    def after(self, seconds: float, do: Callable[..., None], *args: Any) -> None:
        """Let something happen so many seconds later on its clock."""
        self._at(self.now() + seconds, do, *args)

    def keep(self, due: Callable[[], float | None], fire: Callable[[float], object]) -> None:
        """Call `fire(now)` whenever `due()` has passed."""
        self._alarms.append(Alarm(due, fire))

    def stand_still(self, seconds: float) -> None:
        """Do nothing for so long."""
        if not self._still:
            self.say(f"stands still for {seconds:.1f} s")
            self._still = True
            self.lost_s += seconds
            self._world.after(seconds, self._go_on)

    def leap(self, seconds: float) -> None:
        """Its clock is so much later at once, as after the machine was paused."""
        if not self._still:
            self.say(f"its clock leaps by {seconds:.1f} s")
            self._ahead_s += seconds
            self.lost_s += seconds
            self._catch_up(0)

    def _go_on(self) -> None:
        if self.dead:
            return
        self._still = False
        waiting = len(self._unread)
        first = self._world.random.choice([0, waiting, self._world.random.randint(0, waiting)])
        self.say(f"goes on: {waiting} frames wait, its timers come after {first} of them")
        self._catch_up(first)

    def _catch_up(self, first: int) -> None:
        """Do what should have been done: so many frames first, then the timers, then the other frames."""
        unread, self._unread = self._unread, []
        self.behind, self.caught_up_at = True, self.now()
        for do, args in unread[:first]:
            self._step(do, args)
        self._ring()
        for do, args in unread[first:]:
            self._step(do, args)
        self.behind = False

    def _step(self, do: Callable[..., None], args: tuple[Any, ...]) -> None:
        do(*args)
        for alarm in self._alarms:
            due = alarm.due()
            if due is not None and due < alarm.set_to:
                alarm.set_to = due
                self._at(due, self._fire, alarm, due)
        self._inspect()

    def _fire(self, alarm: Alarm, due: float) -> None:
        if alarm.set_to == due:
            alarm.set_to = inf
            alarm.fire(self.now())

    def _at(self, when: float, do: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self._timers, (when, next(self._serial), do, args))
        self._wake_up()

    def _wake_up(self) -> None:
        """See to it that the next timer rings."""
        if self._timers and self._timers[0][0] < self._wakes_at:
            self._wakes_at = self._timers[0][0]
            self._world.after(max(0.0, self._wakes_at - self.now()), self._wake, self._wakes_at)

    def _wake(self, at: float) -> None:
        if self.dead:
            return
        if at == self._wakes_at and not self._still:
            self._ring()

    def _ring(self) -> None:
        """Whatever timer is due."""
        rung = 0
        while self._timers and self._timers[0][0] <= self.now():
            _, _, do, args = heapq.heappop(self._timers)
            self._step(do, args)
            rung += 1
            assert rung < MAX_RUNG, f"the timers ring for ever, the last was {do}"
        self._wakes_at = inf
        self._wake_up()
