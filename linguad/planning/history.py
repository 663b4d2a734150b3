"""The log of a daemon as nodes and arrivals of the model, and what became of them (docs/logging.md)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from math import ceil
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from linguad.errors import LinguadError
from linguad.planning.figures import percentile
from linguad.planning.model import Arrival, Node

LEFT_OUT = ("cancelled", "merged")
"""Outcomes of jobs that nobody wanted done, or that were done as part of another."""

FASTEST_PART = 0.1
"""The job at this place, by the time that was not work, tells how long the way to a node and back is."""


SHORTEST_WORK_S = 1e-6
"""Less is no work that could be measured."""

Seconds = Annotated[float, Meta(ge=0, le=86_400)]


class _Line(Struct):
    """What is read of a line; other members and other events do not matter."""

    event: str
    timestamp: str = ""
    session: str = ""
    node: str | None = None
    outcome: str = ""
    src: str = ""
    tgt: str = ""
    cap: int = 0
    seconds: Seconds = 0.0
    audio_seconds: Seconds | None = None
    node_seconds: Seconds | None = None


class _Done(Struct):
    """A job as the log tells it."""

    at: float
    lane: str
    pair: tuple[str, str]
    audio_s: float
    seconds: float
    node: str | None
    work_s: float | None


class Logged(Struct, frozen=True, kw_only=True):
    """What the log says became of the jobs, to hold the model against."""

    total_p50_ms: float
    total_p99_ms: float
    utilisation: float
    """Above 1 if nodes worked on several jobs at once."""
    imbalance: float
    moved: float


class History(Struct, frozen=True, kw_only=True):
    """A fleet and its load, from a log. Times are s from the first arrival."""

    nodes: list[Node]
    arrivals: list[Arrival]
    end_s: float
    round_trip_s: float
    logged: Logged
    pairs: list[tuple[str, str]]
    left_out: int
    """Jobs that were not wanted any more or had no sound."""
    idle: int
    """Nodes that registered and did nothing, so that it is not known what they can do."""
    strange: int
    """Lines that are not of a log of linguad."""

    def faster(self, factor: float) -> list[Arrival]:
        """The arrivals with so many times the load: everybody comes so much sooner."""
        if factor == 1:
            return self.arrivals
        return [msgspec.structs.replace(one, at=one.at / factor) for one in self.arrivals]


class Reader:
    """Mutable state: the jobs and nodes that lines have told of so far."""

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(_Line)
        self._jobs: list[_Done] = []
        self._slots: dict[str, int] = {}
        self._outcomes: Counter[str] = Counter()
        self._without_sound = 0
        self._strange = 0

    def read(self, lines: Iterable[bytes]) -> None:
        """Take in lines, in any order."""
        for text in lines:
            try:
                line = self._decoder.decode(text)
                if line.event == "job_finished":
                    self._job(line)
                elif line.event == "node_registered" and line.node and line.cap > 0:
                    self._slots[line.node] = line.cap
            except (msgspec.DecodeError, ValueError):
                self._strange += bool(text.strip())

    def history(self, *, slots: int, any_pair: bool) -> History:
        """Everything read; `slots` is for nodes whose registration is not in the log.

        A node serves the pairs it was seen to serve, or all with `any_pair`.

        Raises LinguadError if the log has nothing to replay.
        """
        if not self._outcomes.total():
            raise LinguadError(
                "there is no job_finished in this log; linguad writes it at level info, as JSON with "
                'log.format = "json" or to log.file'
            )
        jobs = sorted(self._jobs, key=lambda job: job.at)
        if not any(job.work_s for job in jobs):
            raise LinguadError(
                "no job_finished in this log tells the time a node worked (node_seconds): either no job was "
                "done, or the log is of an earlier version of linguad"
            )
        pairs = sorted({job.pair for job in jobs})
        speeds = _speeds(jobs)
        number = {pair: index for index, pair in enumerate(pairs)}
        served: defaultdict[str, set[int]] = defaultdict(set)
        for job in jobs:
            if job.node in speeds:
                served[job.node].update(number.values() if any_pair else [number[job.pair]])
        nodes = [
            Node(name, self._slots.get(name, slots), speed, tuple(sorted(served[name])))
            for name, speed in sorted(speeds.items())
        ]
        start = jobs[0].at
        end_s = max(job.at + job.seconds for job in jobs) - start
        return History(
            nodes=nodes,
            arrivals=[_arrival(job, start, number, speeds) for job in jobs],
            end_s=max(end_s, 1e-3),
            round_trip_s=_round_trip_s(jobs),
            logged=_logged(jobs, len(nodes), max(end_s, 1e-3)),
            pairs=pairs,
            left_out=self._outcomes.total() - len(jobs),
            idle=len(self._slots.keys() - speeds.keys()),
            strange=self._strange,
        )

    def _job(self, line: _Line) -> None:
        finished = datetime.fromisoformat(line.timestamp).timestamp()
        self._outcomes[line.outcome] += 1
        if line.outcome in LEFT_OUT or not line.audio_seconds or line.audio_seconds < SHORTEST_WORK_S:
            return
        worked_s = line.node_seconds if line.outcome == "completed" else None
        self._jobs.append(
            _Done(
                at=finished - line.seconds,
                lane=f"{line.session}#{line.tgt}",
                pair=(line.src, line.tgt),
                audio_s=line.audio_seconds,
                seconds=line.seconds,
                node=line.node,
                work_s=worked_s if worked_s and worked_s >= SHORTEST_WORK_S else None,
            )
        )


def _speeds(jobs: Iterable[_Done]) -> dict[str, float]:
    """Audio seconds per second of each node that was seen at work."""
    audio_s: defaultdict[str, float] = defaultdict(float)
    work_s: defaultdict[str, float] = defaultdict(float)
    for job in jobs:
        if job.node and job.work_s:
            audio_s[job.node] += job.audio_s
            work_s[job.node] += job.work_s
    return {name: audio_s[name] / work_s[name] for name in audio_s}


def _arrival(
    job: _Done, start: float, number: dict[tuple[str, str], int], speeds: dict[str, float]
) -> Arrival:
    """A job with as much more work than usual as its node had."""
    effort = 1.0
    if job.work_s and job.node:
        effort = job.work_s * speeds[job.node] / job.audio_s
    return Arrival(job.at - start, job.lane, job.audio_s, number[job.pair], effort)


def _round_trip_s(jobs: Iterable[_Done]) -> float:
    besides = sorted(max(0.0, job.seconds - job.work_s) for job in jobs if job.work_s)
    return percentile(besides, FASTEST_PART)


def _logged(jobs: list[_Done], nodes: int, end_s: float) -> Logged:
    done = [job for job in jobs if job.work_s]
    totals = sorted(job.seconds for job in done)
    work: defaultdict[str, float] = defaultdict(float)
    home: dict[str, str] = {}
    followed = moved = 0
    for job in done:
        name = job.node or ""
        work[name] += job.work_s or 0.0
        if job.lane in home:
            followed += 1
            moved += home[job.lane] != name
        home[job.lane] = name
    busiest = sorted(work.values(), reverse=True)[: ceil(nodes / 100)]
    mean = sum(work.values()) / nodes
    return Logged(
        total_p50_ms=percentile(totals, 0.5) * 1000,
        total_p99_ms=percentile(totals, 0.99) * 1000,
        utilisation=mean / end_s,
        imbalance=sum(busiest) / len(busiest) / mean,
        moved=moved / followed if followed else 0.0,
    )
