"""Capability pools: which is a node's, where a job may go, and what tenants have to say (spec 1.8, 3.2)."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad.core.capability import (
    ALL_SERVICES,
    ANYWHERE,
    NOWHERE,
    CapabilityPool,
    Pin,
    PoolRules,
)
from linguad.core.job import JobStatus
from linguad.core.rules import NodeRules
from linguad.core.services import CORE_SERVICES, Services
from linguad.core.survey import Veto, survey
from linguad.errors import ErrorCode
from linguad.wire.common import PipelineConfig
from tests.core.support import Desk, sent, services

TONED = CORE_SERVICES | Services.TONE
CORE = CapabilityPool(id=10, name="core", services=CORE_SERVICES)
TWIN = CapabilityPool(id=11, name="twin", services=CORE_SERVICES)
RICH = CapabilityPool(id=12, name="rich", services=TONED)
ANY = CapabilityPool(id=20, name="any")

some_services = st.integers(0, 31).map(Services)


class TestHome:
    @pytest.mark.parametrize(
        ("node_id", "pool"), [("node-cap-0", 11), ("node-cap-1", 10), ("node-cap-2", 11), ("tenant-B", 10)]
    )
    def test_of_pools_alike_the_id_decides(self, node_id: str, pool: int) -> None:
        assert PoolRules(pools=(CORE, TWIN)).home(node_id, CORE_SERVICES) == pool

    def test_the_pool_that_asks_for_most_wins(self) -> None:
        rules = PoolRules(pools=(CORE, RICH, ANY))
        assert rules.home("n", TONED) == 12
        assert rules.home("n", CORE_SERVICES) == 10
        assert rules.home("n", Services.ASR) == 20

    def test_who_fits_none_is_in_none(self) -> None:
        assert PoolRules(pools=(CORE, RICH)).home("n", Services.ASR) is None

    @given(node_id=st.text(max_size=20), installed=some_services, asked=st.lists(some_services, max_size=6))
    def test_a_node_has_all_that_its_pool_asks_for(
        self, node_id: str, installed: Services, asked: list[Services]
    ) -> None:
        pools = tuple(CapabilityPool(id=number, services=wanted) for number, wanted in enumerate(asked))
        home = PoolRules(pools=pools).home(node_id, installed)
        fitting = [pool for pool in pools if pool.services & installed == pool.services]
        if home is None:
            assert not fitting
        else:
            assert pools[home] in fitting
            assert pools[home].services.bit_count() == max(pool.services.bit_count() for pool in fitting)


class TestEligible:
    @pytest.mark.parametrize(
        ("scope", "exact", "needs", "pools"),
        [
            ("core", False, CORE_SERVICES, (10, 12)),
            ("core", True, CORE_SERVICES, (10,)),
            ("core", True, TONED, (10,)),
            ("all", False, TONED, (12,)),
            ("all", True, TONED, (12,)),
            ("all", True, CORE_SERVICES, (10,)),
            ("core", False, Services.ASR, (10, 12)),
            ("core", False, Services.TONE, (10, 12)),
        ],
    )
    def test_scope_and_mode(self, scope: str, exact: bool, needs: Services, pools: tuple[int, ...]) -> None:
        compared = CORE_SERVICES if scope == "core" else ALL_SERVICES
        assert PoolRules(pools=(CORE, RICH), compared=compared, exact=exact).asked(needs, "", 0) == pools

    @pytest.mark.parametrize(("strict", "pools"), [(False, (10, 12)), (True, NOWHERE)])
    def test_without_an_eligible_pool_any_will_do_or_none(self, strict: bool, pools: tuple[int, ...]) -> None:
        rules = PoolRules(pools=(CORE, RICH), exact=True, strict=strict)
        assert rules.asked(Services.ASR, "", 0) == pools

    def test_a_pool_that_asks_for_nothing_takes_every_job(self) -> None:
        assert PoolRules(pools=(CORE, ANY), exact=True).asked(Services.ASR, "", 0) == (20,)

    def test_without_pools_nothing_is_narrowed_down(self) -> None:
        assert PoolRules().asked(CORE_SERVICES, "t", 7) == ANYWHERE

    def test_without_fallback_only_the_preferred_one_is_asked(self) -> None:
        rules = PoolRules(pools=(CORE, TWIN, RICH), fallback=False)
        assert [rules.asked(CORE_SERVICES, "", route) for route in range(4)] == [(10,), (11,), (12,), (10,)]


class TestOrder:
    @pytest.mark.parametrize(
        ("seed", "key", "order"), [(0, "tenant-A", (12, 10, 11)), (42, "tenant-A", (10, 11, 12))]
    )
    def test_the_routing_key_points_into_the_ring(self, seed: int, key: str, order: tuple[int, ...]) -> None:
        rules = PoolRules(pools=(CORE, TWIN, RICH), hash_seed=seed)
        desk = Desk(NodeRules(pools=rules))
        assert rules.in_order((10, 11, 12), "", desk.fleet.route(key)) == order

    def test_a_tenant_prefers_its_pool_else_the_first(self) -> None:
        rules = PoolRules(pools=(CORE, TWIN, RICH), tenants={"t": Pin(pool=11)})
        assert rules.in_order((10, 11, 12), "t", 0) == (11, 12, 10)
        assert rules.in_order((10, 12), "t", 1) == (10, 12)

    def test_a_strict_tenant_goes_nowhere_else(self) -> None:
        rules = PoolRules(pools=(CORE, RICH), exact=True, tenants={"t": Pin(pool=12, strict=True)})
        assert rules.asked(CORE_SERVICES, "t", 0) == NOWHERE
        assert rules.asked(TONED, "t", 0) == NOWHERE
        loose = PoolRules(pools=(CORE, RICH), tenants={"t": Pin(pool=12, strict=True)})
        assert loose.asked(CORE_SERVICES, "t", 0) == (12,)

    @given(pools=st.sets(st.integers(0, 65535), min_size=1, max_size=8), route=st.integers(0, 2**64 - 1))
    def test_every_pool_comes_once(self, pools: set[int], route: int) -> None:
        asked = tuple(sorted(pools))
        order = PoolRules().in_order(asked, "", route)
        assert Counter(order) == Counter(asked)
        assert order[0] == asked[route % len(asked)]

    def test_all_sessions_of_a_pinned_tenant_go_the_same_way(self) -> None:
        fleet = Desk(NodeRules(pools=PoolRules(pools=(CORE, TWIN), tenants={"t": Pin(pool=10)}))).fleet
        assert fleet.route("s-1", "t") == fleet.route("s-2", "t") != fleet.route("s-1")
        # the id of a session is no tenant, though it be the same text
        assert fleet.route("t", "u") == fleet.route("t")


def pooled(**rules: object) -> Desk:
    """Two pools, of two core nodes and one with tone, one slot each."""
    desk = Desk(NodeRules(pools=PoolRules(pools=(CORE, RICH), **rules)))  # type: ignore[arg-type]
    for name in ("plain-1", "plain-2", "rich-1"):
        kinds = ("asr", "nmt", "tts", *(("tone",) if name == "rich-1" else ()))
        desk.node(name, "en", "es", cap=1, installed_services=services(*kinds))
        desk.beat(name, installed_services=services(*kinds))
    return desk


class TestSelection:
    def test_the_preferred_pool_first_and_the_others_when_it_is_full(self) -> None:
        desk = pooled(tenants={"t": Pin(pool=12)})
        jobs = [desk.submit(0, f"s-{number}", tenant="t") for number in range(3)]
        nodes = [job.attempts[0].node_id for job in jobs]
        assert nodes[0] == "rich-1"
        assert sorted(nodes[1:]) == ["plain-1", "plain-2"]
        assert [job.attempts[0].fallback for job in jobs] == [False, True, True]
        assert [job.attempts[0].pool for job in jobs] == [12, 10, 10]

    def test_a_strict_tenant_waits_for_its_pool(self) -> None:
        desk = pooled(tenants={"t": Pin(pool=12, strict=True)})
        first, second = (desk.submit(0, f"s-{number}", tenant="t") for number in range(2))
        assert second.status is JobStatus.PENDING
        actions = desk.answer(first.attempts[0])
        assert [message.job_id for message in sent(actions)] == [second.attempts[0].wire_job_id]
        assert second.attempts[0].node_id == "rich-1"

    def test_many_keys_waiting_a_slot_finds_the_job_of_its_pool(self) -> None:
        desk = pooled(tenants={"t": Pin(pool=12, strict=True)})
        first, second = (desk.submit(0, f"s-{number}", tenant="t") for number in range(2))
        for number, (a, b) in enumerate(product("abcdefghij", repeat=2)):
            desk.submit(0, f"x-{number}", src=f"x{a}", tgt=f"y{b}")
        desk.answer(first.attempts[0])
        assert second.attempts[0].node_id == "rich-1"

    def test_without_an_eligible_pool_a_job_ends_at_once(self) -> None:
        desk = pooled(strict=True, exact=True)
        text_only = PipelineConfig(use_asr=True, use_nmt=True, use_tts=False)
        job = desk.submit(0, pipeline=text_only)
        assert job.status is JobStatus.FAILED
        assert not job.attempts
        assert job.outcome is not None
        assert job.outcome.error is ErrorCode.NO_AVAILABLE_NODE
        assert job.outcome.details is not None
        assert job.outcome.details["reason"] == Veto.NOT_IN_ELIGIBLE_POOL

    def test_a_node_changes_its_pool_with_what_it_has_installed(self) -> None:
        desk = pooled(tenants={"t": Pin(pool=12, strict=True)})
        busy = desk.submit(0, "s-0", tenant="t")
        waits = desk.submit(0, "s-1", tenant="t")
        desk.beat("plain-1", installed_services=services("asr", "nmt", "tts", "tone"))
        assert [job.attempts[0].node_id for job in (busy, waits)] == ["rich-1", "plain-1"]

    def test_what_was_learned_of_a_node_counts_in_every_key(self) -> None:
        desk = pooled()
        job = desk.submit(0, seconds=10.0)
        attempt = job.attempts[0]
        before = {key: speed for key, speed, _ in desk.fleet.index_keys(attempt.node_id, 10)}
        desk.now += 2.0
        desk.answer(attempt, processing_time_ms=2000.0)
        after = {key: speed for key, speed, _ in desk.fleet.index_keys(attempt.node_id, 10)}
        assert len(before) > 1
        assert all(after[key] > before[key] for key in before)

    @given(route=st.integers(0, 2**64 - 1), busy=st.lists(st.sampled_from(["plain-1", "plain-2", "rich-1"])))
    def test_explain_says_what_select_does(self, route: int, busy: list[str]) -> None:
        desk = pooled()
        key = desk.submit(0).key
        for name in busy:
            row = desk.fleet.row_of(name)
            assert row is not None
            desk.fleet.table.take(row, 1.0)
        found = survey(desk.fleet, key, route, 1.0)
        marked = [one.node_id for one in found.candidates if one.selected]
        row = desk.fleet.select(key, route, 1.0)
        assert marked == ([] if row is None else [desk.fleet.node_at(row).id])
