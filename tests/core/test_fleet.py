"""All nodes: who may register (node-protocol 3.2, 3.3), their index keys, and the table kept in step."""

from __future__ import annotations

from typing import Any

import pytest
from core.support import SPEECH, SUBTITLES, CountingIds, Desk, heartbeat, languages, register, services
from hypothesis import given
from hypothesis import strategies as st

from linguad.core.admission import MAX_NODE_ID_CHARS
from linguad.core.asking import key_for
from linguad.core.fleet import Fleet
from linguad.core.health import Status
from linguad.core.index import MAX_UNSERVED_KEYS
from linguad.core.key import Key
from linguad.core.rules import NodeRules
from linguad.core.services import CORE_SERVICES, Services
from linguad.errors import ErrorCode, WireError
from linguad.pools import NodeTable
from linguad.wire.common import PipelineConfig
from linguad.wire.node import CapabilityByType, GpuInfo, HardwareInfo, NodeLanguageCapabilities, ResourceUsage

EN_ES = Key("en", "es", CORE_SERVICES)


def fleet(**rules: Any) -> Fleet:
    return Fleet(NodeRules(**rules), NodeTable(), CountingIds())


def ready(made: Fleet, node_id: str, *codes: str, connection: int = 1, **members: Any) -> int:
    """Register a node and let it show its health; returns its row."""
    made.register(register(node_id, *codes, **members), connection, 0.0)
    made.heartbeat(heartbeat(node_id), 0.0)
    row = made.row_of(node_id)
    assert row is not None
    assert made.node_at(row).status is Status.READY
    return row


def rows(made: Fleet, key: Key) -> set[int]:
    """Rows of a key in the table."""
    handle = made.handle(key)
    return set() if handle is None else {row["row"] for row in made.table.explain(handle, 0, 1.0)}


class TestRegistration:
    @pytest.mark.parametrize("version", [None, "2.0"])
    def test_schema_of_today(self, version: str | None) -> None:
        assert fleet().register(register("a", capability_schema_version=version), 1, 0.0).id == "a"

    @pytest.mark.parametrize("version", ["1.0", "3.0", "2", ""])
    def test_another_schema_is_refused(self, version: str) -> None:
        made = fleet()
        with pytest.raises(WireError) as caught:
            made.register(register("a", capability_schema_version=version), 1, 0.0)
        assert caught.value.code is ErrorCode.INVALID_CAPABILITY_SCHEMA
        assert caught.value.field == "capability_schema_version"
        assert not made.nodes

    @pytest.mark.parametrize("hardware", [None, HardwareInfo(), HardwareInfo(gpus=[])])
    def test_without_gpu_where_one_is_required(self, hardware: HardwareInfo | None) -> None:
        with pytest.raises(WireError) as caught:
            fleet(require_gpu="always").register(register("a", hardware=hardware), 1, 0.0)
        assert caught.value.code is ErrorCode.NO_GPU_AVAILABLE

    def test_with_gpu_where_one_is_required(self) -> None:
        hardware = HardwareInfo(gpus=[GpuInfo(name="X", memory_gb=8)])
        assert fleet(require_gpu="always").register(register("a", hardware=hardware), 1, 0.0)

    def test_languages_are_never_a_reason_to_refuse(self) -> None:
        made = fleet()
        made.register(register("a", language_capabilities=None, installed_services=None), 1, 0.0)
        made.heartbeat(heartbeat("a"), 1.0)
        assert made.nodes["a"].status is Status.REGISTERING
        made.heartbeat(
            heartbeat(
                "a",
                installed_services=services("asr", "nmt", "tts"),
                language_capabilities=languages("en", "es"),
            ),
            2.0,
        )
        assert made.select(EN_ES, 0, 1.0) == made.row_of("a")

    @pytest.mark.parametrize("node_id", [None, "", "  ", "x" * (MAX_NODE_ID_CHARS + 1), "a\nb", "a\x7f"])
    def test_unusable_ids_are_replaced(self, node_id: str | None) -> None:
        assert fleet().register(register(node_id), 1, 0.0).id == "node-00000001"

    def test_fresh_ids_are_unused(self) -> None:
        made = fleet()
        made.register(register("node-00000001"), 1, 0.0)
        assert made.register(register(), 2, 0.0).id == "node-00000002"

    @pytest.mark.parametrize("node_id", ["node-7F3A91C2", "x" * MAX_NODE_ID_CHARS, "节点-1"])
    def test_usable_ids_are_kept(self, node_id: str) -> None:
        assert fleet().register(register(node_id), 1, 0.0).id == node_id

    def test_the_newest_connection_owns_the_id(self) -> None:
        made = fleet()
        row = ready(made, "a")
        ready(made, "a", connection=2)
        assert not made.lost("a", 1)
        assert made.select(EN_ES, 0, 1.0) == row
        assert made.lost("a", 2)
        assert not made.lost("a", 2), "once"
        assert not made.lost("nobody", 1)

    def test_a_node_that_comes_back_keeps_its_row_and_its_slots(self) -> None:
        made = fleet()
        row = ready(made, "a")
        assert made.select(EN_ES, 0, 1.0) == row
        made.lost("a", 1)
        assert made.select(EN_ES, 0, 1.0) is None
        assert ready(made, "a", connection=2) == row
        assert made.table.used(row) == 1


class TestKeys:
    @pytest.mark.parametrize(
        ("asked", "key"),
        [
            (("en", "es", SPEECH), Key("en", "es", CORE_SERVICES)),
            (("EN-us", "ZH-CN", SPEECH), Key("en", "zh", CORE_SERVICES)),
            (("auto", "es", SPEECH), Key("*", "es", CORE_SERVICES)),
            (("auto", "es", SPEECH, "en"), Key("*", "es", CORE_SERVICES)),
            (("auto", "es", SPEECH, None, "en"), Key("*", "es", CORE_SERVICES)),
            (("en", "es", SPEECH, "zh", "ja"), Key("en", "es", CORE_SERVICES)),
            (("en", "es", SUBTITLES), Key("en", "es", Services.ASR | Services.NMT)),
            (("en", "es", PipelineConfig(use_nmt=False, use_tts=False)), Key("en", "*", Services.ASR)),
            (("auto", "es", PipelineConfig(use_nmt=False, use_tts=False)), Key("*", "*", Services.ASR)),
        ],
    )
    def test_key_of_a_job(self, asked: tuple[Any, ...], key: Key) -> None:
        assert key_for(fleet(), *asked) == key

    def test_two_way_wants_both_directions(self) -> None:
        made = fleet()
        both, there = (
            ready(made, "both", "en", "es"),
            ready(made, "there", "en", "es", language_capabilities=languages("en", tts_languages=["es"])),
        )
        key = key_for(made, "auto", "en", SPEECH, "es", "en")
        assert (
            key
            == key_for(made, "auto", "es", SPEECH, "en", "es")
            == Key("en", "es", CORE_SERVICES, two_way=True)
        )
        assert rows(made, key) == {both}
        assert rows(made, EN_ES) == {both, there}

    def test_two_way_falls_back_to_one_direction(self) -> None:
        """Resolution 33; also when the last node that could do both has gone."""
        made = fleet()
        assert key_for(made, "auto", "es", SPEECH, "en", "es") == EN_ES
        ready(made, "there", language_capabilities=languages("en", tts_languages=["es"]))
        ready(made, "both", "en", "es")
        assert key_for(made, "auto", "es", SPEECH, "en", "es").two_way
        made.lost("both", 1)
        assert key_for(made, "auto", "es", SPEECH, "en", "es") == EN_ES
        ready(made, "both", "en", "es", connection=2)
        assert key_for(made, "auto", "es", SPEECH, "en", "es").two_way

    def test_of_possible_sources_the_one_that_is_done_soonest(self) -> None:
        """A free slot, else a node that will have one, else a node that may get well."""
        made = fleet(max_concurrent_jobs=1)
        possible = ["fr", "de", "ja", "zh"]

        def source() -> str:
            return key_for(made, "auto", "es", SPEECH, among=possible).src

        assert source() == "fr"
        made.register(register("unwell", "de", "es"), 1, 0.0)
        assert source() == "de"
        ready(made, "busy", "ja", "es")
        assert made.select(Key("ja", "es", CORE_SERVICES), 0, 1.0) is not None
        assert source() == "ja"
        ready(made, "free", "zh", "es")
        assert source() == "zh"

    def test_acceptance_counts(self) -> None:
        """Resolution 37: two precise and two mixed keys, then one and one."""
        made = fleet()
        ready(made, "a", "zh", "en")
        keys = [Key(src, tgt, CORE_SERVICES) for src in ("zh", "en", "*") for tgt in ("zh", "en")]
        assert [key[:2] for key in keys if made.handle(key) is not None] == [
            ("zh", "en"),
            ("en", "zh"),
            ("*", "zh"),
            ("*", "en"),
        ]
        made.heartbeat(heartbeat("a", language_capabilities=languages("zh", "en", tts_languages=["zh"])), 1.0)
        assert [key[:2] for key in keys if made.handle(key) is not None] == [("en", "zh"), ("*", "zh")]

    def test_keys_nobody_serves_do_not_grow_the_index(self) -> None:
        made = fleet()
        ready(made, "a")
        for number in range(MAX_UNSERVED_KEYS + 10):
            assert made.handle(Key(f"x{number}", "es", CORE_SERVICES)) is None
        assert len(made._index._unserved) <= MAX_UNSERVED_KEYS
        assert made.table.statistics()["keys"] == 0

    def test_keys_nobody_serves_any_more_are_dropped(self) -> None:
        made = fleet()
        ready(made, "a")
        assert made.handle(EN_ES) is not None
        made.lost("a", 1)
        assert made.handle(EN_ES) is None
        assert made.table.statistics()["keys"] == 0

    def test_a_key_nobody_served_is_served_by_who_comes(self) -> None:
        made = fleet()
        assert made.select(EN_ES, 0, 1.0) is None
        row = ready(made, "a")
        assert made.select(EN_ES, 0, 1.0) == row


class TestSelection:
    def test_only_ready_nodes(self) -> None:
        made = fleet()
        made.register(register("a"), 1, 0.0)
        assert made.select(EN_ES, 0, 1.0) is None
        assert not made.has_ready(EN_ES)
        made.heartbeat(heartbeat("a"), 1.0)
        assert made.has_ready(EN_ES)
        assert made.select(EN_ES, 0, 1.0) is not None

    def test_degraded_nodes_get_nothing(self) -> None:
        made = fleet()
        row = ready(made, "a")
        for _ in range(3):
            made.job_ended(row, 0.0, usable=False, blame=True, sent_at=0.0)
        assert made.select(EN_ES, 0, 1.0) is None
        made.heartbeat(heartbeat("a"), 1.0)
        assert made.select(EN_ES, 0, 1.0) == row

    def test_a_failure_without_blame_is_no_failure(self) -> None:
        made = fleet()
        row = ready(made, "a")
        for _ in range(9):
            made.job_ended(row, 0.0, usable=False, blame=False, sent_at=0.0)
        assert made.select(EN_ES, 0, 1.0) == row

    def test_up_to_the_cap(self) -> None:
        made = fleet(max_concurrent_jobs=2)
        ready(made, "a")
        ready(made, "b", max_concurrent_jobs=1)
        taken = [made.select(EN_ES, 0, 1.0) for _ in range(4)]
        assert sorted(taken[:3], key=str) == [0, 0, 1]
        assert taken[3] is None

    def test_a_heartbeat_may_change_the_cap(self) -> None:
        made = fleet(max_concurrent_jobs=1)
        row = ready(made, "a")
        made.heartbeat(heartbeat("a", max_concurrent_jobs=2), 1.0)
        assert [made.select(EN_ES, 0, 1.0) for _ in range(3)] == [row, row, None]

    def test_excluded_and_besides(self) -> None:
        made = fleet()
        first, second = ready(made, "a"), ready(made, "b")
        assert made.select(EN_ES, 0, 1.0, [first]) == second
        assert made.has_ready(EN_ES, besides=[first])
        assert not made.has_ready(EN_ES, besides=[first, second])

    def test_busy_machines_are_the_second_choice(self) -> None:
        """Resolution 27: load above the threshold is a penalty, never a veto."""
        made = fleet()
        busy, calm = ready(made, "a"), ready(made, "b")
        made.heartbeat(heartbeat("a", resource_usage=ResourceUsage(gpu_percent=100.0, mem_percent=1.0)), 1.0)
        assert [made.select(EN_ES, 0, 1.0) for _ in range(4)] == [calm] * 4
        assert made.select(EN_ES, 0, 1.0) == busy

    def test_penalty_and_queue_weigh_what_the_rules_say(self) -> None:
        made = fleet(overload_penalty_s=7.0, gpu_queue_task_s=0.5)
        ready(made, "a")
        usage = ResourceUsage(cpu_percent=99.0, gpu_queue_length=4)
        made.heartbeat(heartbeat("a", resource_usage=usage), 1.0)
        (found,) = made.explain(EN_ES, 0, 1.0)
        assert (found["penalty_s"], found["backlog_s"]) == (7.0, 2.0)

    @pytest.mark.parametrize(
        "usage",
        [
            ResourceUsage(gpu_queue_length=10**400),
            ResourceUsage(cpu_percent=1e308, mem_percent=-1e308, gpu_percent=50.0, running_jobs=10**400),
        ],
    )
    def test_absurd_loads_are_no_error(self, usage: ResourceUsage) -> None:
        made = fleet()
        row = ready(made, "a")
        made.heartbeat(heartbeat("a", resource_usage=usage), 1.0)
        assert made.select(EN_ES, 0, 1.0) == row


class TestScan:
    def test_silent_nodes_are_told(self) -> None:
        made = fleet()
        ready(made, "a")
        ready(made, "b")
        made.heartbeat(heartbeat("b"), 30.0)
        assert [node.id for node in made.scan(45.0)] == []
        assert [node.id for node in made.scan(46.0)] == ["a"]
        made.lost("a", 1)
        assert made.scan(46.0) == []

    def test_nodes_that_never_get_healthy_are_degraded(self) -> None:
        made = fleet()
        node = made.register(register("a", installed_services=[]), 1, 0.0)
        for now in (20.0, 40.0, 60.0):
            made.heartbeat(heartbeat("a"), now)
        made.scan(61.0)
        assert node.status is Status.DEGRADED
        made.heartbeat(heartbeat("a", installed_services=services("asr", "nmt", "tts")), 62.0)
        assert node.status is Status.READY

    def test_records_are_kept_for_late_answers_and_then_dropped(self) -> None:
        made = fleet()
        row = ready(made, "a")
        made.handle(EN_ES)
        made.lost("a", 1)
        made.scan(300.0)
        assert made.row_of("a") == row
        made.scan(300.1)
        assert made.row_of("a") is None
        assert not made.fits(row, EN_ES)
        assert made.table.statistics()["nodes"] == 0
        assert ready(made, "b") == row, "the row is free for another"


codes = st.lists(st.sampled_from(["en", "es", "zh"]), max_size=3, unique=True)
offers = st.builds(
    NodeLanguageCapabilities,
    asr_languages=codes,
    tts_languages=codes,
    semantic_core_ready=st.none() | st.just(True),
)
running = st.sets(st.sampled_from(["asr", "nmt", "tts"]), min_size=2).map(
    lambda types: services(*sorted(types))
)
nodes = st.sampled_from(["a", "b", "c"])
keys = st.builds(
    Key,
    st.sampled_from(["en", "es", "zh", "*"]),
    st.sampled_from(["en", "es", "zh"]),
    st.sampled_from([CORE_SERVICES, Services.ASR | Services.NMT]),
    st.booleans(),
).filter(lambda key: not (key.two_way and key.src == "*"))
histories = st.lists(
    st.tuples(st.just("register"), nodes, offers, running, st.booleans())
    | st.tuples(st.just("heartbeat"), nodes, st.none() | offers, st.none() | running)
    | st.tuples(st.just("lost"), nodes)
    | st.tuples(st.just("blame"), nodes)
    | st.tuples(st.just("ask"), keys)
    | st.tuples(st.just("scan"), st.sampled_from([10.0, 70.0, 400.0])),
    max_size=40,
)


@given(histories)
def test_the_table_is_in_step_after_any_history(history: list[tuple[Any, ...]]) -> None:
    """A row is in a key exactly when its node fits it, and available exactly when the node is ready."""
    made, now, connections, asked = fleet(), 0.0, {}, set()
    for number, step in enumerate(history, 1):
        match step:
            case ("register", node_id, offer, found, public):
                message = register(
                    node_id, language_capabilities=offer, installed_services=found, accept_public_jobs=public
                )
                made.register(message, number, now)
                connections[node_id] = number
            case ("heartbeat", node_id, offer, found) if node_id in connections:
                made.heartbeat(heartbeat(node_id, language_capabilities=offer, installed_services=found), now)
            case ("lost", node_id) if node_id in connections:
                assert made.lost(node_id, connections.pop(node_id))
            case ("blame", node_id) if made.row_of(node_id) is not None:
                made.job_ended(made.row_of(node_id), now, usable=False, blame=True, sent_at=0.0)
            case ("ask", key):
                asked.add(key)
                made.handle(key)
            case ("scan", seconds):
                now += seconds
                made.scan(now)
        assert made.table.statistics()["nodes"] == len(made.nodes)
        for key in asked:
            fitting = {row for node_id in made.nodes if made.fits(row := made.row_of(node_id), key)}
            assert rows(made, key) == fitting
            assert fitting <= {made.row_of(node_id) for node_id in connections}
            ready_rows = {row for row in fitting if made.node_at(row).status is Status.READY}
            handle = made.handle(key)
            assert (0 if handle is None else made.table.free(handle)) == len(ready_rows)
            assert made.has_ready(key) == bool(ready_rows)


wild = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
wild_count = st.integers(min_value=0)


@given(
    st.lists(
        st.builds(
            ResourceUsage,
            cpu_percent=st.none() | wild,
            gpu_percent=st.none() | wild,
            mem_percent=st.none() | wild,
            running_jobs=st.none() | wild_count,
            gpu_queue_length=st.none() | wild_count,
        ),
        max_size=4,
    ),
    st.lists(st.builds(CapabilityByType, type=st.text(max_size=5), ready=st.booleans()), max_size=3),
    st.text(max_size=10),
)
def test_no_report_of_a_node_is_an_error(
    loads: list[ResourceUsage], by_type: list[CapabilityByType], name: str
) -> None:
    made = fleet()
    node = made.register(register(name, capability_by_type=by_type), 1, 0.0)
    for usage in loads:
        made.heartbeat(heartbeat(node.id, resource_usage=usage, capability_by_type=by_type), 1.0)
        made.select(EN_ES, 0, 1.0)


def test_records_of_lost_nodes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linguad.core.fleet.MAX_OFFLINE_NODES", 3)
    desk = Desk()
    for number in range(5):
        desk.node(f"n-{number}")
        desk.lose(f"n-{number}")
    desk.fleet.scan(desk.now)
    assert list(desk.fleet.nodes) == ["n-2", "n-3", "n-4"]


def test_a_lost_node_keeps_no_languages_but_gets_them_back() -> None:
    desk = Desk()
    desk.node("a")
    desk.lose("a")
    assert not desk.fleet.nodes["a"].languages.asr
    desk.node("a")
    assert desk.submit().attempts[0].node_id == "a"


def test_the_number_of_nodes_is_bounded() -> None:
    desk = Desk(NodeRules(max_nodes=1))
    desk.node("a")
    with pytest.raises(WireError, match="as many nodes"):
        desk.node("b")
    desk.node("a")
