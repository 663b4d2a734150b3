"""Questions about a fleet: how long will people wait, how many nodes are needed, what if more people come.

A large fleet is answered for by a sample: the same nodes and sessions, fewer of them. A choice looks at a few
nodes of one pool of about a hundred, so that more of the same does not change what a job meets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

from msgspec import Struct
from msgspec.structs import replace

from linguad.config import Config
from linguad.errors import LinguadError
from linguad.planning.figures import Figures, figures
from linguad.planning.fleet import Fleet, Load
from linguad.planning.model import Rules, Run, simulate

Watch = Callable[[float], object]
"""Hears how much of the work is done, 0 to 1."""

MOST_SESSIONS = 100_000
"""Sessions of a sample: more cost memory and tell nothing new."""

FEWEST_NODES = 50
"""Nodes of a sample, if there are so many."""

NODES_OF_A_PAIR = 10
"""... and for each pair of languages, on average."""

WARM_UP = 0.25
"""Part of the time that is not counted."""

CYCLES = 5
"""How often at least each session speaks, where the limit on jobs allows it."""

FINE = 0.01
"""A number of nodes is looked for to a hundredth."""

MOST_NODES = 32
"""Multiple of the nodes that the work needs, beyond which no search goes."""

NEAR = 0.9
"""From this load on queues take long to fill, so the sample is smaller and watched for longer."""

LONGER = 4
"""... by so much."""

STEPS = (0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.88, 0.94, 1.0, 1.06)
"""Loads for which a sweep tells the waits."""


def rules_of(
    settings: Config,
    *,
    policy: str | None = None,
    keep_ratio: float | None = None,
    keep_margin_s: float | None = None,
    parallel: int = 1,
    round_trip_s: float = 0.0,
    failing: float = 0.0,
) -> Rules:
    """How a daemon with these settings chooses, but for what is given."""
    pools, jobs = settings.pools, settings.jobs
    return Rules(
        policy=policy or pools.policy,
        choices=pools.choices,
        max_members=pools.max_members,
        keep_ratio=pools.keep_ratio if keep_ratio is None else keep_ratio,
        keep_margin_s=pools.keep_margin_seconds if keep_margin_s is None else keep_margin_s,
        keeps=jobs.affinity == "session",
        pending_timeout_s=jobs.pending_timeout_seconds,
        max_attempts=jobs.failover_max_attempts,
        parallel=parallel,
        round_trip_s=round_trip_s,
        failing=failing,
    )


class Effort(Struct, frozen=True, kw_only=True):
    """How much is simulated."""

    nodes: int = 4_000
    """Largest sample."""
    jobs_per_node: int = 100
    fewest_jobs: int = 60_000
    most_jobs: int = 500_000

    def less(self) -> Effort:
        """For questions that need many runs."""
        return Effort(
            nodes=max(1, self.nodes // 4),
            jobs_per_node=self.jobs_per_node,
            fewest_jobs=self.fewest_jobs // 2,
            most_jobs=self.most_jobs // 4,
        )


class Scenario(Struct, frozen=True, kw_only=True):
    """A fleet, its load, and how the daemon is set."""

    fleet: Fleet
    load: Load
    rules: Rules

    @property
    def offered(self) -> float:
        """Work that comes, as a part of what the nodes together can do; from 1 on, waits grow without end."""
        return self.load.audio_per_s / (self.fleet.nodes * self.fleet.speed * self.rules.parallel)

    def with_nodes(self, nodes: int) -> Scenario:
        """The same load on another number of nodes."""
        return replace(self, fleet=replace(self.fleet, nodes=nodes))

    def with_sessions(self, sessions: int) -> Scenario:
        """Another number of sessions on the same nodes."""
        return replace(self, load=replace(self.load, sessions=sessions))

    def sample(self, most_nodes: int) -> Scenario:
        """At most so many nodes, and as many fewer sessions."""
        all_nodes, sessions = self.fleet.nodes, self.load.sessions
        most_nodes = min(most_nodes, all_nodes * MOST_SESSIONS // sessions)
        if self.offered >= NEAR:
            most_nodes //= LONGER
        servers = NODES_OF_A_PAIR * self.fleet.pairs // self.fleet.pairs_per_node
        nodes = min(all_nodes, max(most_nodes, FEWEST_NODES, servers))
        if nodes == all_nodes:
            return self
        return self.with_nodes(nodes).with_sessions(max(1, round(sessions * nodes / all_nodes)))


class Answer(Struct, frozen=True, kw_only=True):
    """What became of a scenario."""

    scenario: Scenario
    simulated: Scenario
    """The sample, or the scenario itself."""
    figures: Figures
    run: Run


def answer(scenario: Scenario, seed: int, effort: Effort, watch: Watch = lambda part: None) -> Answer:
    """Simulate a scenario, or a sample of it."""
    small = scenario.sample(effort.nodes)
    nodes = small.fleet.make(seed)
    per_node = effort.jobs_per_node * (LONGER if scenario.offered >= NEAR else 1)
    wanted = max(len(nodes) * per_node, small.load.sessions * CYCLES, effort.fewest_jobs)
    jobs = min(wanted, effort.most_jobs)
    end_s = jobs / small.load.jobs_per_s
    run = simulate(
        nodes,
        small.load.arrivals(seed, end_s),
        small.rules,
        start_s=end_s * WARM_UP,
        end_s=end_s,
        seed=seed,
        watch=lambda arrived: watch(min(1.0, arrived / jobs)),
    )
    watch(1.0)
    return Answer(scenario=scenario, simulated=small, figures=figures(run, nodes, small.rules), run=run)


def nodes_for(
    scenario: Scenario, wait_p99_ms: float, seed: int, effort: Effort, watch: Watch = lambda part: None
) -> tuple[Answer, list[Answer]]:
    """The fewest nodes, to a hundredth, with which 99 % of the jobs wait no longer; and what was tried.

    Raises LinguadError if even many times the nodes that the work needs are not enough.
    """
    quick, tried = effort.less(), list[Answer]()

    def good(nodes: int) -> bool:
        tried.append(answer(scenario.with_nodes(nodes), seed, quick))
        watch(len(tried) / (len(tried) + 3))
        return tried[-1].figures.wait_p99_ms <= wait_p99_ms

    fleet = scenario.fleet
    needed = scenario.load.audio_per_s / (fleet.speed * scenario.rules.parallel)
    bad = max(ceil(needed), ceil(fleet.pairs / fleet.pairs_per_node)) - 1
    enough, stride = bad + 1, needed / 8
    while not good(enough):
        if enough > MOST_NODES * needed + MOST_NODES:
            waited = round(tried[-1].figures.wait_p99_ms)
            raise LinguadError(
                f"no number of nodes brings the wait down to {wait_p99_ms:g} ms; {enough} leave {waited} ms"
            )
        bad, enough, stride = enough, ceil(enough + stride), stride * 2
    while enough - bad > max(1, FINE * enough):
        middle = (bad + enough) // 2
        if good(middle):
            enough = middle
        else:
            bad = middle
    final = answer(scenario.with_nodes(enough), seed, effort)
    while final.figures.wait_p99_ms > wait_p99_ms:  # the quick look was a little too hopeful
        tried.append(final)
        enough += ceil(enough * FINE)
        final = answer(scenario.with_nodes(enough), seed, effort)
    watch(1.0)
    return final, tried


def sweep(
    scenario: Scenario,
    seed: int,
    effort: Effort,
    steps: Sequence[float] = STEPS,
    watch: Watch = lambda part: None,
) -> list[Answer]:
    """The same nodes with fewer and with more sessions, up to all the nodes can do."""
    found: list[Answer] = []
    for step in steps:
        sessions = max(1, round(scenario.load.sessions * step / scenario.offered))
        found.append(answer(scenario.with_sessions(sessions), seed, effort.less()))
        watch(len(found) / len(steps))
    return found
