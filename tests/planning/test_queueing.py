"""The model against what queueing theory knows, at fixed seeds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from math import factorial, inf
from statistics import fmean

import pytest

from linguad.planning.figures import Figures, figures
from linguad.planning.model import Arrival, Node, Rules, Run, simulate

PLAIN = Rules(keeps=False, pending_timeout_s=inf, max_members=100_000)
"""Sessions keep no node, nobody gives up, all nodes are in one pool."""

WORK_S = 1.0
"""Average work of a job on a node of speed 1."""


def poisson(rate: float, until_s: float, seed: int = 1, sessions: int = 10_000) -> Iterator[Arrival]:
    """Jobs at random moments, with work that is exponentially distributed."""
    chance, at = random.Random(seed), 0.0
    while (at := at + chance.expovariate(rate)) < until_s:
        yield Arrival(at, f"s-{chance.randrange(sessions)}", WORK_S, effort=chance.expovariate(1.0))


def fleet(count: int, slots: int = 1, speed: float = 1.0) -> list[Node]:
    """Equal nodes."""
    return [Node(f"node-{i}", slots, speed) for i in range(count)]


def busy(nodes: list[Node], load: float, jobs: int, rules: Rules = PLAIN) -> tuple[Run, Figures]:
    """A run of about so many jobs at this load of the fleet."""
    rate = load * sum(node.speed for node in nodes) * rules.parallel / WORK_S
    end_s = jobs / rate
    run = simulate(nodes, poisson(rate, end_s), rules, start_s=end_s / 10, end_s=end_s)
    return run, figures(run, nodes, rules)


def erlang_c(servers: int, load: float) -> float:
    """The probability that a job of an M/M/c queue has to wait."""
    offered = servers * load
    last = offered**servers / factorial(servers) / (1 - load)
    return last / (sum(offered**k / factorial(k) for k in range(servers)) + last)


@pytest.mark.parametrize("slots", [1, 4, 10_000])
def test_one_node_is_a_queue_with_one_server(slots: int) -> None:
    """Whether jobs wait in linguad or in the node: M/M/1 at load 0.7."""
    run, _ = busy(fleet(1, slots), 0.7, 100_000)
    assert fmean(run.waits) == pytest.approx(0.7 / 0.3, rel=0.05)
    assert sum(wait > 0 for wait in run.waits) / len(run.waits) == pytest.approx(0.7, rel=0.02)


@pytest.mark.parametrize(("servers", "load"), [(2, 0.8), (8, 0.7), (8, 0.9), (40, 0.9)])
def test_nodes_with_one_slot_are_a_queue_with_many_servers(servers: int, load: float) -> None:
    """M/M/c: its waiting probability and mean wait."""
    run, seen = busy(fleet(servers), load, 100_000)
    waiting = erlang_c(servers, load)
    assert seen.queued == pytest.approx(waiting, rel=0.05)
    assert fmean(run.waits) == pytest.approx(waiting / (servers * (1 - load)), rel=0.1)


def test_a_node_that_works_in_parallel_is_one_with_many_servers() -> None:
    rules = Rules(keeps=False, pending_timeout_s=inf, parallel=8)
    run, _ = busy(fleet(1, slots=64), 0.8, 100_000, rules)
    assert fmean(run.waits) == pytest.approx(erlang_c(8, 0.8) / (8 * 0.2), rel=0.1)


def test_random_choice_makes_as_many_queues_as_nodes() -> None:
    rules = Rules(policy="random", keeps=False, pending_timeout_s=inf, max_members=100_000)
    run, _ = busy(fleet(50, slots=10_000), 0.7, 120_000, rules)
    assert fmean(run.waits) == pytest.approx(0.7 / 0.3, rel=0.05)


def test_the_less_loaded_of_two_is_as_good_as_theory_says() -> None:
    """Mitzenmacher: the time in a large fleet is the sum of load**(2**i - 2) over i = 1, 2, 3, ..."""
    rules = Rules(
        policy="least_connections", choices=2, keeps=False, pending_timeout_s=inf, max_members=100_000
    )
    run, _ = busy(fleet(1000, slots=10_000), 0.8, 120_000, rules)
    assert fmean(run.totals) == pytest.approx(sum(0.8 ** (2**i - 2) for i in range(1, 8)), rel=0.03)


@pytest.mark.parametrize("policy", ["expected_finish", "least_connections", "random"])
@pytest.mark.parametrize("load", [0.3, 0.9])
def test_equal_nodes_are_at_work_as_much_as_work_comes(policy: str, load: float) -> None:
    rules = Rules(policy=policy)
    _, seen = busy(fleet(20, slots=4), load, 30_000, rules)
    assert seen.load == pytest.approx(load, rel=0.03)
    assert seen.utilisation == pytest.approx(seen.load, rel=0.01)


def test_more_than_they_can_do_keeps_them_at_work_and_the_rest_is_given_up() -> None:
    _, seen = busy(fleet(20, slots=4), 1.25, 30_000, Rules())
    assert seen.utilisation == pytest.approx(1.0, abs=0.001)
    assert seen.given_up == pytest.approx(1 - 1 / 1.25, rel=0.1)
    assert seen.wait_p50_ms >= 10_000


def test_every_job_is_done_given_up_or_failed() -> None:
    nodes = [*fleet(5, slots=2), Node("other", 2, 1.0, (1,))]
    jobs = [
        Arrival(one.at, one.session, one.audio_s, index % 3, one.effort)
        for index, one in enumerate(poisson(8.0, 500.0))
    ]
    run = simulate(nodes, jobs, Rules(failing=0.3), start_s=0.0, end_s=500.0)
    assert run.arrived == len(jobs) == run.done + run.given_up + run.failed
    assert min(run.done, run.given_up, run.failed) > 0
    assert run.given_up >= sum(job.pair == 2 for job in jobs)  # which nobody serves
    assert len(run.totals) == run.done
    assert len(run.waits) == run.done + run.given_up


def test_waits_grow_with_the_load() -> None:
    waits = [fmean(busy(fleet(50, slots=4), load, 25_000, Rules())[0].waits) for load in (0.3, 0.6, 0.8, 0.9)]
    assert waits == sorted(waits)
    assert waits[0] < waits[-1] / 4


def test_expected_finish_is_best_where_speeds_differ() -> None:
    nodes = [Node(f"node-{i}", 4, speed) for i, speed in enumerate([0.5, 1.0, 2.0, 4.0] * 10)]
    waits = {
        policy: busy(nodes, 0.7, 25_000, Rules(policy=policy, keeps=False))[1].total_p99_ms
        for policy in ("expected_finish", "least_connections", "random")
    }
    assert waits["expected_finish"] < waits["least_connections"] < waits["random"]


def test_the_way_there_and_back_is_not_a_wait() -> None:
    jobs = [Arrival(at=10.0, session="s", audio_s=2.0)]
    run = simulate(fleet(1, speed=4.0), jobs, Rules(round_trip_s=0.25), start_s=0.0, end_s=20.0)
    assert list(run.waits) == [0.0]
    assert list(run.totals) == pytest.approx([0.75])


def test_jobs_that_come_together_wait_for_each_other() -> None:
    jobs = [Arrival(0.0, f"s-{i}", 2.0) for i in range(4)]
    run = simulate(fleet(2, slots=2), jobs, Rules(), start_s=0.0, end_s=10.0)
    assert sorted(run.waits) == [0.0, 0.0, 2.0, 2.0]
    assert run.busy_s == [4.0, 4.0]


def test_work_counts_inside_the_window_only() -> None:
    jobs = [Arrival(0.0, "s", 4.0), Arrival(5.0, "s", 4.0)]
    run = simulate(fleet(1), jobs, Rules(), start_s=1.0, end_s=7.0)
    assert (run.arrived, run.busy_s) == (1, [5.0])


def test_a_session_stays_on_its_node_while_that_does_not_cost_much() -> None:
    jobs = list(poisson(15.0, 500.0, sessions=100))
    moved = {
        keeps: figures(run, fleet(20), Rules()).moved
        for keeps in (True, False)
        for run in [simulate(fleet(20, 4), jobs, Rules(keeps=keeps), start_s=0.0, end_s=500.0)]
    }
    assert moved[True] < 0.5
    assert moved[False] > 0.9


def test_the_same_seed_gives_the_same_run_and_another_another() -> None:
    jobs = list(poisson(8.0, 200.0))
    runs = [simulate(fleet(10, 4), jobs, Rules(), start_s=0.0, end_s=200.0, seed=seed) for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0].waits != runs[2].waits


def test_a_fleet_without_nodes_does_nothing() -> None:
    with pytest.raises(ValueError, match="must be a node"):
        simulate([], [], Rules(), start_s=0.0, end_s=1.0)
