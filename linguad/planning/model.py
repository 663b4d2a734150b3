"""A fleet at work, event by event: the node table that the daemon uses, around it queues instead of sockets.

Rules (docs/planning.md says what they leave out):

- A job that finds no free slot waits in line for its pair of languages, up to `pending_timeout_s`, as in
  `core.placement`: the line of a pair is served in order, by any node with a slot, that of the session first.
- A node works on `parallel` jobs at once, each at its full speed; others in its slots wait in it, in order.
- A slot is taken from the choice until the result is back, half a round trip after the work is done.

Deterministic: the same nodes, arrivals, rules and seed give the same run. No I/O, and all times are in s.
"""

from __future__ import annotations

import random
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush, heapreplace
from typing import NamedTuple

from msgspec import Struct, field

from linguad.pools import MAX_EXCLUDED, NodeTable, fnv1a64

ROUNDING_S = 1e-9
"""What sums of times may differ by."""

TOLD_EVERY = 4096
"""Jobs between two calls of `watch`."""


class Node(NamedTuple):
    """A node of the fleet."""

    id: str
    slots: int
    speed: float
    """Audio seconds per second of work."""
    pairs: tuple[int, ...] = (0,)
    """Numbers of the pairs of languages that it serves."""


class Arrival(Struct, frozen=True, gc=False):
    """A job that wants to be done."""

    at: float
    session: str
    audio_s: float
    pair: int = 0
    effort: float = 1.0
    """How much longer than usual a node takes for so much audio."""


class Rules(Struct, frozen=True, kw_only=True):
    """How nodes are chosen and how they work; the first eight as in the settings."""

    policy: str = "expected_finish"
    choices: int = 3
    max_members: int = 100
    keep_ratio: float = 1.5
    keep_margin_s: float = 1.0
    keeps: bool = True
    """Whether a session prefers its node at all."""
    pending_timeout_s: float = 10.0
    max_attempts: int = 3
    parallel: int = 1
    """Jobs a node works on at once."""
    round_trip_s: float = 0.0
    failing: float = 0.0
    """Part of the attempts that come to nothing, after all their work."""


class Run(Struct, kw_only=True):
    """What was seen. Jobs count if they arrived inside the window, work as far as it was done inside it."""

    start_s: float
    end_s: float
    waits: array[float] = field(default_factory=lambda: array("d"))
    """Per counted job: the time when it was neither worked on nor on its way, with earlier attempts."""
    totals: array[float] = field(default_factory=lambda: array("d"))
    """Per counted job that was done: from its arrival until the result is back."""
    arrived: int = 0
    done: int = 0
    given_up: int = 0
    """Nobody was free within the timeout."""
    failed: int = 0
    """All its attempts came to nothing."""
    queued: int = 0
    """Found no free slot when it came."""
    followed: int = 0
    """Attempts of sessions that had a node before."""
    moved: int = 0
    """... that went to another one."""
    work_s: float = 0.0
    """What all counted jobs would take on a node of average speed."""
    busy_s: list[float] = field(default_factory=list)
    """Per node: time worked within the window."""


class _Job(Struct, eq=False, gc=False):
    """A job on its way; mutable."""

    arrival: Arrival
    counted: bool
    since: float
    """When it began to look for a node."""
    failed_on: tuple[int, ...] = ()
    """Nodes on which it came to nothing."""


def simulate(
    nodes: Sequence[Node],
    arrivals: Iterable[Arrival],
    rules: Rules,
    *,
    start_s: float,
    end_s: float,
    seed: int = 1,
    watch: Callable[[int], object] = lambda arrived: None,
) -> Run:
    """Let a fleet do jobs that arrive in order of time, to the last; `watch` hears how many have arrived.

    Jobs before `start_s` warm the fleet up. Raises ValueError when there are no nodes.
    """
    model = _Model(nodes, rules, start_s, end_s, seed)
    for number, arrival in enumerate(arrivals):
        if number % TOLD_EVERY == 0:
            watch(number)
        model.arrive(arrival)
    return model.finish()


class _Model:
    """Mutable state: the table, when each node will be free, the lines, and what happens next."""

    def __init__(self, nodes: Sequence[Node], rules: Rules, start_s: float, end_s: float, seed: int) -> None:
        if not nodes:
            raise ValueError("there must be a node")
        self._rules = rules
        self._table = NodeTable(
            rng_seed=seed,
            choices=rules.choices,
            max_members=rules.max_members,
            policy=rules.policy,
            sticky_ratio=rules.keep_ratio,
            sticky_margin_s=rules.keep_margin_s,
        )
        self._keys = {pair: self._table.add_key() for pair in sorted({p for n in nodes for p in n.pairs})}
        self._nodes = nodes
        self._add_nodes()
        self._free_at = [[0.0] * rules.parallel for _ in nodes]
        self._lines: dict[int, deque[_Job]] = {}
        self._events: list[tuple[float, int, int, _Job, float]] = []
        self._serial = 0
        self._home: dict[str, int] = {}
        self._routes: dict[str, int] = {}
        self._chance = random.Random(seed)
        self._half_trip_s = rules.round_trip_s / 2
        self._mean_speed = sum(node.speed for node in nodes) / len(nodes)
        self._run = Run(start_s=start_s, end_s=end_s, busy_s=[0.0] * len(nodes))

    def arrive(self, arrival: Arrival) -> None:
        """A job comes; what ends before is over."""
        run, events = self._run, self._events
        while events and events[0][0] <= arrival.at:
            self._step()
        counted = run.start_s <= arrival.at < run.end_s
        if counted:
            run.arrived += 1
            run.work_s += arrival.audio_s * arrival.effort / self._mean_speed
        self._place(_Job(arrival, counted, arrival.at), arrival.at)

    def finish(self) -> Run:
        """Do what is left."""
        while self._events:
            self._step()
        for line in self._lines.values():
            for job in line:
                self._give_up(job)
        return self._run

    def _add_nodes(self) -> None:
        for number, node in enumerate(self._nodes):
            row = self._table.add_node(node.id, node.slots)
            assert row == number, "a new table counts its rows from 0"
            self._table.set_ready(row, True)
            for pair in node.pairs:
                self._table.join(self._keys[pair], row, node.speed)

    def _place(self, job: _Job, now: float) -> None:
        """Send a job to a node, or let it wait; one that failed comes before the others."""
        pair = job.arrival.pair
        if pair not in self._lines and self._send(job, now):
            return
        line = self._lines.setdefault(pair, deque())
        if job.failed_on:
            line.appendleft(job)
        else:
            line.append(job)
            self._run.queued += job.counted

    def _send(self, job: _Job, now: float) -> bool:
        arrival, failed_on = job.arrival, job.failed_on
        session = arrival.session
        key = self._keys.get(arrival.pair)
        if key is None:
            return False
        route = self._routes.get(session)
        if route is None:
            route = self._routes[session] = fnv1a64(session, 0)
        home = self._home.get(session, -1)
        kept = home if self._rules.keeps else -1
        row = self._table.select(key, route, arrival.audio_s, failed_on[-MAX_EXCLUDED:], kept)
        if row < 0 and failed_on:
            row = self._table.select(key, route, arrival.audio_s, (), kept)
        if row < 0:
            return False
        run = self._run
        if job.counted and home >= 0:
            run.followed += 1
            run.moved += row != home
        self._home[session] = row
        free_at = self._free_at[row]
        begin = max(now + self._half_trip_s, free_at[0])
        took = arrival.audio_s * arrival.effort / self._nodes[row].speed
        end = begin + took
        heapreplace(free_at, end)
        run.busy_s[row] += max(0.0, min(end, run.end_s) - max(begin, run.start_s))
        self._serial += 1
        heappush(self._events, (end + self._half_trip_s, self._serial, row, job, took))
        return True

    def _step(self) -> None:
        """The result of the attempt that ends next is back."""
        now, _, row, job, took = heappop(self._events)
        arrival, rules = job.arrival, self._rules
        self._table.release(row, arrival.audio_s)
        if rules.failing and self._chance.random() < rules.failing:
            job.failed_on += (row,)
            if len(job.failed_on) < rules.max_attempts:
                job.since = now
                self._place(job, now)
            else:
                self._run.failed += job.counted
        elif job.counted:
            total = now - arrival.at
            self._run.done += 1
            self._run.totals.append(total)
            wait = total - took - rules.round_trip_s
            self._run.waits.append(wait if wait > ROUNDING_S else 0.0)
        if self._lines:
            self._wake(row, now)

    def _wake(self, row: int, now: float) -> None:
        """A node has a slot: serve the lines it is of use for, the one that stands longest first."""
        for pair in [pair for pair in self._lines if pair in self._nodes[row].pairs]:
            line = self._lines[pair]
            while line:
                if now - line[0].since > self._rules.pending_timeout_s:
                    self._give_up(line.popleft())
                elif self._send(line[0], now):
                    line.popleft()
                else:
                    break
            if not line:
                del self._lines[pair]

    def _give_up(self, job: _Job) -> None:
        if job.counted:
            self._run.given_up += 1
            self._run.waits.append(job.since - job.arrival.at + self._rules.pending_timeout_s)
