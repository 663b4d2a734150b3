"""Fleets and loads are what was asked for, samples tell what the whole would, searches keep their target."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from statistics import fmean, pstdev

import pytest

from linguad.config import Config
from linguad.errors import LinguadError
from linguad.planning.cost import Cost, instances
from linguad.planning.fleet import Fleet, Load
from linguad.planning.plan import Effort, Scenario, answer, nodes_for, rules_of, sweep

SMALL = Effort(nodes=400, jobs_per_node=50, fewest_jobs=8_000, most_jobs=16_000)


def scenario(nodes: int, sessions: int, **rules: float) -> Scenario:
    """The defaults, with this many."""
    return Scenario(fleet=Fleet(nodes=nodes), load=Load(sessions=sessions), rules=rules_of(Config(), **rules))


def test_speeds_have_the_average_and_spread_that_were_asked_for() -> None:
    speeds = [node.speed for node in Fleet(nodes=5000, speed=3.0, speed_spread=0.4).make(1)]
    assert fmean(speeds) == pytest.approx(3.0)
    assert pstdev(speeds) == pytest.approx(1.2, rel=0.05)
    assert min(speeds) > 0
    assert {node.speed for node in Fleet(nodes=5, speed=3.0, speed_spread=0.0).make(1)} == {3.0}


@pytest.mark.parametrize("nodes", [4, 10, 1000])
def test_every_pair_is_served_and_popular_ones_by_more(nodes: int) -> None:
    made = Fleet(nodes=nodes, pairs=12, pairs_per_node=3).make(1)
    assert all(len(set(node.pairs)) == 3 for node in made)
    served = Counter(pair for node in made for pair in node.pairs)
    assert len(served) == 12
    if nodes == 1000:
        assert served[0] > 2 * served[11]


def test_sessions_make_the_jobs_that_their_talking_says() -> None:
    load = Load(sessions=500, talking=0.4, utterance_s=5.0, pairs=4, popularity=1.0)
    jobs = list(load.arrivals(1, 1000.0))
    assert len(jobs) == pytest.approx(load.jobs_per_s * 1000, rel=0.02)
    assert sum(job.audio_s for job in jobs) == pytest.approx(load.audio_per_s * 1000, rel=0.02)
    assert all(one.at <= other.at for one, other in pairwise(jobs))
    assert fmean(job.effort for job in jobs) == pytest.approx(1.0, rel=0.01)
    asked = Counter(job.pair for job in jobs)
    assert asked[0] > 2 * asked[3] > 0


def test_nobody_ends_an_utterance_before_it_can_have_been_spoken() -> None:
    last: dict[str, float] = {}
    for job in Load(sessions=50, talking=1.0).arrivals(1, 200.0):
        if job.session in last:
            assert job.at - last[job.session] == pytest.approx(job.audio_s)
        last[job.session] = job.at
    assert len(last) == 50


def test_each_language_wanted_is_a_job_of_its_own() -> None:
    load = Load(sessions=10, targets=3, pairs=5)
    jobs = list(load.arrivals(1, 500.0))
    assert load.jobs_per_s == pytest.approx(3 * Load(sessions=10).jobs_per_s)
    by_utterance = Counter((job.at, job.audio_s) for job in jobs)
    assert set(by_utterance.values()) == {3}
    assert len({job.session for job in jobs}) == 30


def test_the_same_seed_makes_the_same_load() -> None:
    load = Load(sessions=50)
    assert list(load.arrivals(1, 100.0)) == list(load.arrivals(1, 100.0))
    assert list(load.arrivals(1, 100.0)) != list(load.arrivals(2, 100.0))


def test_a_sample_tells_what_the_whole_would() -> None:
    asked = scenario(1000, 10_000)
    whole = answer(asked, 1, Effort(nodes=1000, jobs_per_node=50))
    part = answer(asked, 1, Effort(nodes=250, jobs_per_node=200))
    assert whole.simulated == asked
    assert (part.simulated.fleet.nodes, part.simulated.load.sessions) == (250, 2500)
    assert part.figures.wait_p99_ms == pytest.approx(whole.figures.wait_p99_ms, rel=0.08)
    assert part.figures.total_p99_ms == pytest.approx(whole.figures.total_p99_ms, rel=0.08)
    assert part.figures.utilisation == pytest.approx(whole.figures.utilisation, rel=0.05)


def test_a_sample_keeps_some_nodes_for_each_pair() -> None:
    fleet = Fleet(nodes=10_000, pairs=100, pairs_per_node=2)
    asked = Scenario(fleet=fleet, load=Load(sessions=100_000, pairs=100), rules=rules_of(Config()))
    assert asked.sample(100).fleet.nodes == 500


@pytest.mark.parametrize("target_ms", [1200.0, 3000.0])
def test_as_few_nodes_as_keep_the_target(target_ms: float) -> None:
    found, tried = nodes_for(scenario(1, 600), target_ms, 1, SMALL)
    assert found.figures.wait_p99_ms <= target_ms
    fewer = [one for one in tried if one.scenario.fleet.nodes < found.scenario.fleet.nodes * 0.97]
    assert fewer
    assert all(one.figures.wait_p99_ms > target_ms for one in fewer)


def test_shorter_waits_take_more_nodes() -> None:
    many, few = (nodes_for(scenario(1, 300), ms, 1, SMALL)[0].scenario.fleet.nodes for ms in (700, 4000))
    assert many > few >= 300 * 0.3 / 4


def test_a_target_that_no_fleet_keeps() -> None:
    """Half of the attempts come to nothing, after all their work: that is a wait, too."""
    with pytest.raises(LinguadError, match="no number of nodes"):
        nodes_for(scenario(1, 20, failing=0.5), 1.0, 1, SMALL)


def test_a_sweep_goes_up_to_what_the_nodes_can_do() -> None:
    found = sweep(scenario(100, 100), 1, SMALL)
    loads = [one.scenario.offered for one in found]
    assert loads == sorted(loads)
    assert loads[0] < 0.2
    assert loads[-1] > 1
    assert found[-1].figures.wait_p99_ms > 5 * found[0].figures.wait_p99_ms


def test_rules_are_those_of_the_settings() -> None:
    rules = rules_of(Config())
    assert (rules.policy, rules.keeps, rules.pending_timeout_s) == ("expected_finish", True, 10.0)
    other = rules_of(Config(), policy="random", keep_margin_s=0.0, keep_ratio=1.0)
    assert (other.policy, other.keep_margin_s, other.keep_ratio) == ("random", 0.0, 1.0)


def test_instances_are_for_the_dearer_of_work_and_sessions() -> None:
    fleet = Fleet(nodes=1)
    cost = Cost(job_ms=10.0, chunk_ms=0.0, core_use=0.5, max_sessions=1000)
    busy = instances(fleet, Load(sessions=1000, talking=1.0, utterance_s=1.0), cost)
    assert (busy.by_cpu, busy.by_sessions, busy.count) == (21, 1, 21)  # with the heartbeats of the node
    silent = instances(fleet, Load(sessions=5000, talking=0.001), cost)
    assert (silent.by_cpu, silent.by_sessions, silent.count) == (1, 5, 5)
    twice = instances(fleet, Load(sessions=1000, talking=1.0, utterance_s=1.0, targets=2), cost)
    assert twice.cores == pytest.approx(2 * busy.cores, rel=0.01)
