"""What is counted of selections: by pool, with few values of each label (spec 3.5)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import REGISTRY

from linguad import metrics
from linguad.core.actions import Assign, Deliver, NobodyFree
from linguad.core.capability import CapabilityPool, Pin, PoolRules
from linguad.core.rules import NodeRules
from linguad.core.services import CORE_SERVICES, Services
from linguad.dispatch.selections import Selections
from tests.core.support import Desk, only, services

POOLS = PoolRules(
    pools=(
        CapabilityPool(id=4001, services=CORE_SERVICES),
        CapabilityPool(id=4002, services=CORE_SERVICES | Services.TONE),
    ),
    tenants={"t": Pin(pool=4002)},
)


@contextmanager
def counted() -> Iterator[dict[tuple[str, ...], float]]:
    """Yields what is counted inside, by metric and labels in alphabetical order of their names."""
    before, found = _counts(), dict[tuple[str, ...], float]()
    yield found
    found |= {name: value - before.get(name, 0.0) for name, value in _counts().items()}
    for name in [name for name, value in found.items() if not value]:
        del found[name]


def _counts() -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name.startswith("scheduler_") and sample.name.endswith("_total")
    }


SELECTED = "scheduler_phase3_pool_selected_total"
ATTEMPT = "scheduler_phase3_pool_attempt_total"


def test_pools_are_counted_by_id_and_the_others_as_refusing() -> None:
    desk, selections = Desk(NodeRules(pools=POOLS)), Selections()
    desk.node("plain", "en", "es", cap=1)
    desk.node("rich", "en", "es", cap=1, installed_services=services("asr", "nmt", "tts", "tone"))
    with counted() as found:
        for number in range(3):
            _, actions = desk.submitted(0, f"s-{number}", tenant="t")
            for assign in only(Assign, actions):
                selections.found(assign.job, assign.attempt)
            for vain in only(NobodyFree, actions):
                selections.missed(vain.job, vain.refusing)
    assert found == {
        (SELECTED, "false", "hit", "4002"): 1,
        (SELECTED, "true", "hit", "4001"): 1,
        (SELECTED, "false", "miss", "4002"): 1,
        (ATTEMPT, "4002", "ok", "success"): 1,
        (ATTEMPT, "4001", "ok", "success"): 1,
        (ATTEMPT, "4002", "capacity_exceeded", "fail"): 2,
        (ATTEMPT, "4001", "capacity_exceeded", "fail"): 1,
    }


def test_without_pools_languages_are_counted() -> None:
    desk, selections = Desk(), Selections()
    _, actions = desk.submitted(0, src="qq", tgt="rr")
    with counted() as found:
        for vain in only(NobodyFree, actions):
            selections.missed(vain.job, vain.refusing)
        for end in only(Deliver, desk.wait(11.0)):
            assert end.outcome.details is not None
            selections.given_up(end.job, end.outcome.details)
    assert found == {
        (SELECTED, "false", "miss", "qq>rr"): 1,
        (ATTEMPT, "qq>rr", "no_nodes", "fail"): 1,
        ("scheduler_no_available_node_total", "no_nodes", "types"): 1,
    }


def test_a_job_that_waits_is_counted_once_until_it_waits_again() -> None:
    desk = Desk()
    desk.node("a", "en", "es", cap=1)
    first = desk.submit(0, "s-0")
    _, actions = desk.submitted(0, "s-1")
    actions += desk.beat("a") + desk.wait(1.0) + desk.beat("a")
    assert [vain.refusing[0].reason for vain in only(NobodyFree, actions)] == ["capacity_exceeded"]
    answered = desk.answer(first.attempts[0])
    assert not only(NobodyFree, answered)
    assert [vain.refusing[0].reason for vain in only(NobodyFree, desk.lose("a"))] == ["no_nodes"]


def test_a_label_has_few_values() -> None:
    few = metrics.FewValues(2)
    assert [few(name) for name in ("a", "b", "c", "a", "d")] == ["a", "b", "other", "a", "other"]
