"""The dry run of a selection: what it tells, that it is true, and that nobody notices (spec 3.8)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linguad.core import index, rehearsal
from linguad.core.capability import ALL_SERVICES, CapabilityPool, Pin, PoolRules
from linguad.core.job import Job
from linguad.core.key import Key
from linguad.core.rules import NodeRules
from linguad.core.services import CORE_SERVICES, Services
from linguad.core.simulate import AUDIO_S, BREAKDOWN, MAX_LISTED, Answer, Question, simulate
from linguad.core.steps import NODES_PER_STEP, at_once
from linguad.pools import NodeTable
from linguad.wire.common import PipelineConfig
from tests.core.support import SPEECH, SUBTITLES, Desk, languages, services

TONED = CORE_SERVICES | Services.TONE
CORE = CapabilityPool(id=10, name="core", services=CORE_SERVICES)
TWIN = CapabilityPool(id=11, name="twin", services=CORE_SERVICES)
RICH = CapabilityPool(id=12, name="rich", services=TONED)


def ask(desk: Desk, **members: Any) -> Answer:
    """The answer to a question about speech from `en` into `es`."""
    return at_once(simulate(desk.fleet, Question(**({"src": "en", "tgt": "es"} | members))))


def pooled(**rules: Any) -> Desk:
    """Two core nodes and one with tone, one slot each."""
    desk = Desk(NodeRules(pools=PoolRules(pools=(CORE, RICH), **rules)))
    for name, *more in (("plain-1",), ("plain-2",), ("rich-1", "tone")):
        desk.node(name, cap=1, installed_services=services("asr", "nmt", "tts", *more))
    return desk


class TestWithoutPools:
    def test_the_fleet_is_one_pool(self) -> None:
        desk = Desk()
        desk.node("a")
        desk.node("b", "fr", "de")
        answer = ask(desk)
        assert answer.selected_node_id == "a"
        assert answer.debug.pool_count == 1
        assert (answer.debug.preferred_pool, answer.debug.selected_pool) == (0, 0)
        assert answer.debug.attempts == [(0, "ok", 2)]
        assert not answer.debug.fallback_used
        assert answer.breakdown["total_nodes"] == 2
        assert answer.breakdown["asr_lang_unsupported"] == 1
        assert answer.asked_of_nodes["pools"] is None
        assert set(answer.breakdown) == {"total_nodes", *BREAKDOWN}

    def test_nobody_at_all(self) -> None:
        answer = ask(Desk())
        assert answer.selected_node_id is None
        assert answer.debug.selected_pool is None
        assert answer.debug.attempts == [(0, "no_nodes", 0)]
        assert set(answer.breakdown.values()) == {0}

    def test_who_is_full_or_excluded(self) -> None:
        desk = Desk()
        desk.node("a", cap=1)
        desk.node("b", cap=1)
        desk.submit()
        full = desk.dispatch.jobs["job-1"].attempts[0].node_id
        free = "b" if full == "a" else "a"
        assert ask(desk).selected_node_id == free
        answer = ask(desk, exclude=free)
        assert (answer.selected_node_id, answer.excluded_node_id) == (None, free)
        assert answer.debug.attempts == [(0, "capacity_exceeded", 1)]
        assert answer.breakdown["total_nodes"] == 1
        assert ask(desk, exclude="nobody").excluded_node_id is None

    def test_private_nodes_only_if_they_may_be_used(self) -> None:
        desk = Desk()
        desk.node("a", accept_public_jobs=False)
        answer = ask(desk)
        assert answer.selected_node_id is None
        assert answer.breakdown["not_in_public_pool"] == 1
        assert ask(desk, public=False).selected_node_id == "a"
        desk.submit()
        assert ask(desk, public=False).selected_node_id == "a"

    @pytest.mark.parametrize(
        ("required", "src", "node", "asked"),
        [
            (Services.NONE, "en", ("asr", "nmt", "tts"), ("en", "es", ["asr", "nmt", "tts"])),
            (Services.ASR, "en", ("asr",), ("en", "*", ["asr"])),
            (Services.ASR | Services.NMT, "auto", ("asr", "nmt"), ("*", "es", ["asr", "nmt"])),
            (TONED, "en", ("asr", "nmt", "tts", "tone"), ("en", "es", ["asr", "nmt", "tts", "tone"])),
        ],
    )
    def test_what_is_required_is_asked_of_nodes(
        self, required: Services, src: str, node: tuple[str, ...], asked: tuple[str, str, list[str]]
    ) -> None:
        desk = Desk()
        desk.node("lacking", installed_services=services(*node[1:]))
        desk.node("fit", installed_services=services(*node))
        answer = ask(desk, required=required, src=src)
        assert answer.selected_node_id == "fit"
        assert tuple(answer.asked_of_nodes[name] for name in ("src", "tgt", "services")) == asked

    def test_the_scores_and_the_way_of_each_candidate(self) -> None:
        desk = Desk(table=NodeTable(max_members=2, rng_seed=4))
        for number in range(20):
            desk.node(f"n-{number}", cap=2)
        desk.submit()
        answer = ask(desk, session="s-9")
        (chosen,) = [one for one in answer.now.candidates if one.selected]
        assert chosen.node_id == answer.selected_node_id
        told = {row["node_id"]: row for row in desk.fleet.explain(SPOKEN, desk.fleet.route("s-9"), AUDIO_S)}
        assert len(answer.now.candidates) == 20
        for one in answer.now.candidates:
            row = told[one.node_id]
            assert (one.class_, one.shard, one.rank) == (row["class"], row["pool"], row["rank"])
            assert (one.finish_s, one.speed, one.backlog_s) == (
                row["finish_s"],
                row["speed"],
                row["backlog_s"],
            )
            assert one.slots_used == row["used"]
        assert chosen.rank == 0

    def test_the_best_are_listed_and_all_are_counted_in_short_steps(self) -> None:
        desk = Desk()
        for number in range(2 * NODES_PER_STEP + 1):
            desk.node(f"n-{number}", cap=1)
        steps = simulate(desk.fleet, Question(src="en", tgt="es"))
        pauses = 0
        while True:
            try:
                next(steps)
            except StopIteration as end:
                answer = end.value
                break
            pauses += 1
        assert pauses >= 9  # to find who fits, to build the key, and to count
        assert len(answer.now.candidates) == MAX_LISTED
        assert answer.now.more_candidates == 2 * NODES_PER_STEP + 1 - MAX_LISTED
        assert answer.breakdown["total_nodes"] == 2 * NODES_PER_STEP + 1


class TestRoutingKey:
    @pytest.mark.parametrize(
        ("asked", "key"),
        [
            ({"routing_key": "r", "tenant": "pinned", "session": "s"}, "r"),
            ({"tenant": "pinned", "session": "s"}, "pinned"),
            ({"tenant": "other", "session": "s"}, "s"),
            ({"tenant": "other"}, "other"),
            ({"session": "s"}, "s"),
            ({}, "default"),
        ],
    )
    def test_the_same_as_of_real_jobs(self, asked: dict[str, str], key: str) -> None:
        desk = pooled(tenants={"pinned": Pin(pool=12)})
        assert ask(desk, **asked).routing_key == key


class TestPools:
    def test_the_preferred_one_then_the_others(self) -> None:
        desk = pooled(tenants={"t": Pin(pool=12)})
        answer = ask(desk, tenant="t")
        assert answer.selected_node_id == "rich-1"
        assert answer.debug.attempts == [(12, "ok", 1)]
        desk.submit(0, tenant="t")
        answer = ask(desk, tenant="t")
        assert answer.selected_node_id in ("plain-1", "plain-2")
        assert answer.debug.attempts == [(12, "capacity_exceeded", 1), (10, "ok", 2)]
        assert (answer.debug.preferred_pool, answer.debug.selected_pool) == (12, 10)
        assert answer.debug.fallback_used
        assert answer.debug.pool_count == 2
        assert answer.breakdown["total_nodes"] == 2
        assert answer.asked_of_nodes["pool_names"] == ["core", "rich"]

    def test_on_failure_the_breakdown_is_that_of_the_preferred_pool(self) -> None:
        desk = pooled(tenants={"t": Pin(pool=12)})
        answer = ask(desk, tenant="t", src="ja")
        assert answer.debug.attempts == [(12, "asr_lang_unsupported", 1), (10, "asr_lang_unsupported", 2)]
        assert answer.breakdown["total_nodes"] == answer.breakdown["asr_lang_unsupported"] == 1
        assert answer.now.total_nodes == 3

    def test_a_strict_tenant_is_asked_nowhere_else(self) -> None:
        desk = pooled(tenants={"t": Pin(pool=12, strict=True)})
        desk.submit(0, tenant="t")
        answer = ask(desk, tenant="t")
        assert answer.selected_node_id is None
        assert answer.debug.attempts == [(12, "capacity_exceeded", 1)]

    def test_no_eligible_pool_no_attempt(self) -> None:
        desk = pooled(strict=True, exact=True, compared=ALL_SERVICES)
        answer = ask(desk, required=Services.ASR)
        assert (answer.selected_node_id, answer.debug.attempts) == (None, [])
        assert (answer.debug.pool_count, answer.debug.preferred_pool) == (1, 0)
        assert answer.asked_of_nodes["pools"] == []
        assert answer.now.reason == "not_in_eligible_pool"
        assert set(answer.breakdown.values()) == {0}

    def test_exact_mode_parts_the_jobs(self) -> None:
        desk = pooled(exact=True, compared=ALL_SERVICES)
        assert ask(desk, required=CORE_SERVICES).debug.attempts[0][0] == 10
        assert ask(desk, required=TONED).debug.attempts == [(12, "ok", 1)]


SPOKEN = Key("en", "es", CORE_SERVICES)
KINDS: list[dict[str, Any]] = [
    {},
    {"language_capabilities": languages("en", "es", "fr")},
    {"installed_services": services("asr", "nmt", "tts", "tone")},
    {"installed_services": services("asr", "nmt")},
    {"accept_public_jobs": False},
]
numbers = st.integers(0, 7)
targets = st.sampled_from(["es", "fr"])
tenants = st.sampled_from(["", "t", "u"])
questions = st.fixed_dictionaries(
    {
        "tgt": targets,
        "src": st.sampled_from(["en", "es", "auto"]),
        "tenant": tenants,
        "session": numbers.map("s-{}".format),
        "required": st.sampled_from([Services.NONE, TONED, Services.ASR | Services.NMT, Services.ASR]),
        "exclude": st.sampled_from(["", "n-0", "n-1"]),
        "public": st.booleans(),
    }
)
histories = st.lists(
    st.one_of(
        st.tuples(st.just("node"), numbers, st.sampled_from(KINDS), st.integers(1, 2)),
        st.tuples(st.just("lose"), numbers),
        st.tuples(st.just("beat"), numbers, st.sampled_from(KINDS)),
        st.tuples(
            st.just("submit"),
            numbers,
            targets,
            tenants,
            st.sampled_from([SPEECH, SUBTITLES, PipelineConfig()]),
        ),
        st.tuples(st.just("answer"), numbers, st.sampled_from(["complete", "failed"])),
        st.tuples(st.just("simulate"), questions),
    ),
    min_size=10,
    max_size=60,
)
rule_sets = st.sampled_from(
    [
        PoolRules(),
        PoolRules(pools=(CORE, TWIN, RICH), tenants={"t": Pin(pool=12), "u": Pin(pool=11, strict=True)}),
        PoolRules(pools=(CORE, RICH), exact=True, compared=ALL_SERVICES, fallback=False),
    ]
)


class World:
    """A desk with a history, in which dry runs happen or do not."""

    def __init__(self, pools: PoolRules) -> None:
        self.desk = Desk(NodeRules(pools=pools), NodeTable(max_members=1, choices=2, rng_seed=7))
        self.jobs: list[Job] = []

    def live(self, kind: str, *said: Any) -> None:
        desk = self.desk
        desk.now += 1.0
        match kind, said:
            case "node", (number, members, cap):
                desk.node(f"n-{number}", cap=cap, **members)
            case "lose", (number,) if f"n-{number}" in desk.connections:
                desk.lose(f"n-{number}")
            case "beat", (number, members) if f"n-{number}" in desk.connections:
                told = {name: value for name, value in members.items() if name != "accept_public_jobs"}
                desk.beat(f"n-{number}", **told)
            case "submit", (number, tgt, tenant, pipeline):
                job = desk.submit(
                    len(self.jobs), f"s-{number}", tgt=tgt, tenant=tenant, pipeline=pipeline, src="en"
                )
                self.jobs.append(job)
            case "answer", (number, how) if opened := [one for job in self.jobs for one in job.open_attempts]:
                desk.answer(opened[number % len(opened)], how)

    @property
    def told(self) -> object:
        return [[(one.node_id, one.pool, one.end) for one in job.attempts] for job in self.jobs]


@settings(max_examples=150)
@given(rule_sets, histories)
def test_nobody_notices(pools: PoolRules, history: list[tuple[Any, ...]]) -> None:
    """Two worlds with the same history go the same way, though in one of them dry runs are asked for."""
    asked, unasked = World(pools), World(pools)
    for kind, *said in history:
        if kind == "simulate":
            first = at_once(simulate(asked.desk.fleet, Question(**said[0])))
            assert at_once(simulate(asked.desk.fleet, Question(**said[0]))) == first
        else:
            asked.live(kind, *said)
            unasked.live(kind, *said)
    assert asked.told == unasked.told
    table, other = asked.desk.fleet.table, unasked.desk.fleet.table
    assert table.statistics() == other.statistics()
    for node_id in asked.desk.fleet.nodes:
        row = asked.desk.fleet.row_of(node_id)
        assert row is not None
        assert table.where(row) == other.where(row)
    noticed = [(node.no_work, node.missed) for node in asked.desk.fleet.nodes.values()]
    assert noticed == [(node.no_work, node.missed) for node in unasked.desk.fleet.nodes.values()]


@settings(max_examples=150)
@given(rule_sets, histories, questions, st.integers(1, 3))
def test_the_answer_is_what_select_does(
    pools: PoolRules, history: list[tuple[Any, ...]], question: dict[str, Any], most_keys: int
) -> None:
    """Also where keys have to be built, and others are dropped for them."""
    world = World(pools)
    fleet = world.desk.fleet
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "MAX_KEYS", most_keys)
        patch.setattr(rehearsal, "MAX_KEYS", most_keys)
        for kind, *said in history:
            world.live(kind, *said)
        question = question | {"public": True}
        answer = at_once(simulate(fleet, Question(**question)))
        route, tenant = fleet.route(answer.routing_key), question["tenant"]
        needs = Services.of(answer.asked_of_nodes["services"])  # type: ignore[arg-type]
        src, tgt = str(answer.asked_of_nodes["src"]), str(answer.asked_of_nodes["tgt"])
        key = Key(src, tgt, needs, pools=fleet.rules.pools.asked(needs, tenant, route))
        excluded = fleet.row_of(question["exclude"])
        seen = at_once(
            fleet.rehearsal().explain(
                key, route, AUDIO_S, () if excluded is None else (excluded,), -1, tenant
            )
        )
        row = fleet.select(key, route, AUDIO_S, () if excluded is None else (excluded,), -1, tenant)
    assert answer.selected_node_id == (None if row is None else fleet.node_at(row).id)
    assert [one["row"] for one in seen if one["selected"]] == ([] if row is None else [row])
    marked = [one.node_id for one in answer.now.candidates if one.selected]
    assert marked == ([] if row is None else [answer.selected_node_id])
