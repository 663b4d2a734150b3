"""Why a job went where it went: every reason, and never another opinion than selection itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from core.support import SUBTITLES, Desk, languages, register, services
from hypothesis import given
from hypothesis import strategies as st

from linguad.core.explain import MAX_JOBS, MAX_SURVEYS, NODES_PER_S
from linguad.core.job import Job
from linguad.core.rules import NodeRules
from linguad.core.services import WhyNot
from linguad.core.survey import Survey, Veto, survey
from linguad.wire.common import PipelineConfig
from linguad.wire.node import CapabilityByType, GpuInfo, HardwareInfo, InstalledService, ResourceUsage

LISTENING = PipelineConfig(use_nmt=False, use_tts=False)
CHOICES = 3
"""Free nodes that selection compares; of so many it takes the best."""

GPU = HardwareInfo(gpus=[GpuInfo(name="gpu", memory_gb=8)])


def surveyed(desk: Desk, **members: Any) -> Survey:
    """What a job of these members finds; it is taken back at once."""
    job = desk.submit(90, "s-look", **members)
    found = survey(desk.fleet, job.key, job.lane.route, 1.0)
    desk.dispatch.session_ended("s-look", desk.now)
    return found


def explained(desk: Desk, name: str) -> list[dict[str, Any]]:
    """What the server answers."""
    found: list[dict[str, Any]] = msgspec.to_builtins(desk.dispatch.explain(name, desk.now))
    return found


class TestReasons:
    @pytest.mark.parametrize(
        ("node", "job", "veto"),
        [
            ({"accept_public_jobs": False}, {}, Veto.NOT_IN_PUBLIC_POOL),
            ({"installed_services": services("asr", "nmt")}, {}, Veto.MODEL_NOT_AVAILABLE),
            ({}, {"tgt": "fr"}, Veto.LANG_PAIR_UNSUPPORTED),
            ({}, {"src": "fr"}, Veto.ASR_LANG_UNSUPPORTED),
            ({}, {"src": "fr", "pipeline": LISTENING}, Veto.ASR_LANG_UNSUPPORTED),
            ({}, {"src": "auto", "tgt": "fr"}, Veto.SRC_AUTO_NO_CANDIDATE),
        ],
    )
    def test_veto(self, node: dict[str, Any], job: dict[str, Any], veto: Veto) -> None:
        desk = Desk()
        desk.node("a", cap=4)
        desk.node("b", **({"cap": 4} | node))
        desk.fleet.lost("a", desk.connections["a"])
        found = surveyed(desk, **job)
        assert found.breakdown == {Veto.OFFLINE: 1, veto: 1}
        assert (found.total_nodes, found.reason) == (2, Veto.OFFLINE)
        assert {one.node_id: one.veto for one in found.candidates} == {"a": Veto.OFFLINE, "b": veto}

    def test_language_that_is_written_but_not_spoken(self) -> None:
        desk = Desk()
        nmt = [{"model_id": "m", "languages": ["en", "es", "fr"], "rule": "any_to_any"}]
        offer = msgspec.convert(
            {"asr_languages": ["en"], "tts_languages": ["es"], "nmt_capabilities": nmt},
            type=type(languages()),
        )
        desk.node("a", language_capabilities=offer)
        assert surveyed(desk, tgt="fr").reason == Veto.TTS_LANG_UNSUPPORTED
        assert surveyed(desk, tgt="fr", pipeline=SUBTITLES).reason == "unknown"

    def test_both_directions_of_a_pair(self) -> None:
        desk = Desk()
        desk.node("both")
        desk.node("one", language_capabilities=languages("en", "es", asr_languages=["en"]))
        job = desk.submit(src="auto", lang_a="en", lang_b="es")
        assert job.key.two_way
        found = survey(desk.fleet, job.key, job.lane.route, 1.0)
        assert found.breakdown == {Veto.SRC_AUTO_NO_CANDIDATE: 1}

    def test_not_ready(self) -> None:
        desk = Desk()
        desk.dispatch.register(register("a"), 1, desk.now)
        assert surveyed(desk).reason == Veto.STATUS_NOT_READY

    def test_no_nodes(self) -> None:
        found = surveyed(Desk())
        assert (found.total_nodes, found.reason, found.breakdown) == (0, "no_nodes", {})

    def test_capacity(self) -> None:
        desk = Desk()
        desk.node("a", cap=1)
        desk.submit()
        assert surveyed(desk).breakdown == {Veto.CAPACITY_EXCEEDED: 1}

    @pytest.mark.parametrize("usage", [{"gpu_percent": 95.0}, {"gpu_queue_length": 1}])
    def test_busy_machine_counts_but_is_chosen(self, usage: dict[str, Any]) -> None:
        desk = Desk()
        desk.node("a")
        desk.beat("a", resource_usage=ResourceUsage(**usage))
        found = surveyed(desk)
        assert found.breakdown == {Veto.RESOURCE_THRESHOLD_EXCEEDED: 1}
        assert found.candidates[0].selected

    def test_gpu(self) -> None:
        desk = Desk(NodeRules(require_gpu="declared"))
        gpu = HardwareInfo(gpus=[GpuInfo()])
        desk.node("a", hardware=gpu)
        desk.dispatch.register(register("a", installed_services=services("asr", device="cpu")), 2, desk.now)
        found = surveyed(desk)
        assert found.breakdown == {Veto.STATUS_NOT_READY: 1}
        assert found.missing_types == {}

    def test_ties_go_to_the_earlier(self) -> None:
        assert [str(veto) for veto in Veto] == [
            "offline",
            "status_not_ready",
            "not_in_public_pool",
            "gpu_unavailable",
            "model_not_available",
            "capacity_exceeded",
            "resource_threshold_exceeded",
            "lang_pair_unsupported",
            "asr_lang_unsupported",
            "tts_lang_unsupported",
            "src_auto_no_candidate",
            "feature_unsupported",
            "not_paired",
            "not_in_eligible_pool",
        ]
        desk = Desk()
        desk.node("a", "en", "fr")
        desk.node("b", cap=1)
        desk.submit()
        found = surveyed(desk)
        assert set(found.breakdown.values()) == {1}
        assert found.reason == Veto.CAPACITY_EXCEEDED

    def test_largest_counter_wins(self) -> None:
        desk = Desk()
        for node_id, codes in {"a": ("en",), "b": ("en", "fr"), "c": ("en", "zh")}.items():
            desk.node(node_id, *codes)
        desk.lose("a")
        found = surveyed(desk)
        assert found.breakdown == {Veto.OFFLINE: 1, Veto.LANG_PAIR_UNSUPPORTED: 2}
        assert found.reason == Veto.LANG_PAIR_UNSUPPORTED


class TestMissingTypes:
    @pytest.mark.parametrize(
        ("device", "status", "by_type", "why"),
        [
            (None, "", None, WhyNot.NO_IMPL),
            (None, "", "asr", WhyNot.MISSING_CAPABILITY_ENTRY),
            ("gpu", "stopped", None, WhyNot.NO_RUNNING_IMPL),
            ("cpu", "running", None, WhyNot.ONLY_CPU_RUNNING),
            ("cpu+gpu", "running", None, WhyNot.GPU_IMPL_NOT_RUNNING),
            ("cpu", "running", "tts", WhyNot.NO_IMPL),
        ],
    )
    def test_reason(self, device: str | None, status: str, by_type: str | None, why: WhyNot) -> None:
        """The node's own reason, here `no_impl`, goes before what its services show."""
        installed = services("asr", "nmt")
        for number, one in enumerate(device.split("+") if device else ()):
            state = status if number == 0 else "stopped"
            installed.append(InstalledService(service_id=f"tts-{one}", type="tts", device=one, status=state))
        said = [CapabilityByType(type=by_type, reason="no_impl")] if by_type else None
        desk = Desk(NodeRules(require_gpu="declared"))
        desk.node("a", hardware=GPU)
        desk.beat("a", installed_services=installed, capability_by_type=said)
        assert surveyed(desk).missing_types == {"tts": why}

    def test_marked_services_do_not_run(self) -> None:
        desk = Desk()
        desk.node("a")
        desk.node("b", installed_services=services("asr", "nmt"))
        row = desk.fleet.row_of("a")
        assert row is not None
        desk.fleet.mark_unavailable(row, "nmt-service", desk.now)
        found = surveyed(desk)
        assert found.missing_types == {"nmt": WhyNot.NO_RUNNING_IMPL, "tts": WhyNot.NO_IMPL}
        assert found.reason == Veto.MODEL_NOT_AVAILABLE

    def test_types_are_only_those_of_the_job(self) -> None:
        desk = Desk()
        desk.node("a", installed_services=services("asr", "nmt"))
        assert surveyed(desk, pipeline=SUBTITLES).missing_types == {}


class TestRefused:
    def test_client_learns_the_reason_and_the_owner_that_his_node_was_passed_over(self) -> None:
        desk = Desk()
        desk.node("a", installed_services=services("asr", "nmt"))
        desk.node("b", "en", "fr")
        job = desk.submit()
        desk.wait(11.0)
        assert job.outcome is not None
        assert job.outcome.details == {
            "src": "en",
            "tgt": "es",
            "reason": "model_not_available",
            "missing_types": {"tts": "no_impl"},
        }
        assert desk.fleet.nodes["a"].no_work == {Veto.MODEL_NOT_AVAILABLE: 1}
        assert desk.fleet.nodes["b"].no_work == {Veto.LANG_PAIR_UNSUPPORTED: 1}

    def test_busy_nodes_are_the_reason_however_many_others_do_not_fit(self) -> None:
        desk = Desk()
        desk.node("a", cap=1)
        for other in "bcd":
            desk.node(other, "en", "fr")
        desk.submit()
        job = desk.submit(session="s-2")
        desk.wait(11.0)
        assert job.outcome is not None
        assert job.outcome.details is not None
        assert job.outcome.details["reason"] == "capacity_exceeded"

    def test_many_refusals_cost_one_look(self) -> None:
        desk = Desk()
        desk.node("a", "en", "fr")
        for number in range(20):
            desk.submit(session=f"s-{number}")
        desk.wait(11.0)
        assert desk.fleet.nodes["a"].no_work.total() == 1

    def test_strange_requests_do_not_cost_a_look_each(self) -> None:
        desk = Desk()
        for number in range(50):
            desk.node(f"n-{number}")
        for number in range(500):
            desk.submit(session=f"s-{number}", src="en", tgt=f"x{number}")
        desk.wait(11.0)
        looks = desk.fleet.nodes["n-0"].no_work.total()
        assert looks == NODES_PER_S // 50 + 1
        desk.wait(60.0)
        job = desk.submit(tgt="fr")
        desk.wait(11.0)
        assert job.outcome is not None
        assert job.outcome.details == {"src": "en", "tgt": "fr", "reason": "lang_pair_unsupported"}


class TestJob:
    def test_by_every_name(self) -> None:
        desk = Desk()
        desk.node("a")
        desk.node("b")
        job = desk.submit(3, "s:1")
        desk.answer(job.attempts[0], "failed")
        for name in ("job-1", "job-1~r2", "t-1", "s:1:3"):
            assert [one["job_id"] for one in explained(desk, name)] == ["job-1"], name
        for name in ("", "job-2", "s:1", "s:1:4", "s:1:³", ":3"):
            assert explained(desk, name) == [], name

    def test_life_of_a_job(self) -> None:
        desk = Desk()
        desk.node("a")
        desk.node("b")
        job = desk.submit()
        first = job.attempts[0]
        desk.now += 2.0
        desk.answer(first, "failed")
        (found,) = explained(desk, job.id)
        assert (found["status"], found["waiting"]) == ("assigned", None)
        failed, other = found["now"]["candidates"][-1], found["now"]["candidates"][0]
        assert (failed["node_id"], failed["excluded"], failed["selected"]) == (first.node_id, True, False)
        assert (other["excluded"], other["selected"], other["veto"]) == (False, True, None)
        assert found["now"]["total_nodes"] == 1
        desk.now += 1.0
        desk.answer(job.attempts[1])
        (found,) = explained(desk, job.id)
        assert (found["status"], found["took_s"]) == ("completed", 3.0)
        assert [one["chosen"] for one in found["attempts"]] == ["best", "best"]
        assert [(one["end"], one["sent_s"], one["ended_s"]) for one in found["attempts"]] == [
            ("failed", 0.0, 2.0),
            ("ok", 2.0, 3.0),
        ]
        assert not {"hola", "hello"} & set(str(found).split("'"))

    def test_node_that_failed_before_is_a_candidate_when_there_is_no_other(self) -> None:
        desk = Desk()
        desk.node("a", cap=1)
        job = desk.submit()
        desk.submit(session="s-2")
        desk.answer(job.attempts[0], "failed")
        found = survey(desk.fleet, job.key, job.lane.route, 1.0, job.excluded_rows)
        (only,) = found.candidates
        assert (only.failed_before, only.excluded, only.veto) == (True, False, Veto.CAPACITY_EXCEEDED)

    def test_place_in_the_waiting_room(self) -> None:
        desk = Desk()
        for index in range(3):
            desk.submit(index)
        desk.submit(session="s-2")
        assert explained(desk, "s-1:2")[0]["waiting"] == {"earlier_of_session": 2, "all_alike": 4}

    def test_bounds(self) -> None:
        desk = Desk()
        for index in range(MAX_JOBS + 1):
            desk.submit(index)
        found = explained(desk, "t-1")
        assert [one["utterance_index"] for one in found] == list(range(1, MAX_JOBS + 1))
        assert sum(one["now"] is not None for one in found) == MAX_SURVEYS

    def test_what_is_forgotten_is_not_explained(self) -> None:
        desk = Desk(explained_jobs=0)
        job = desk.submit()
        desk.wait(desk.dispatch.placement.rules.terminal_retention_s + 20.0)
        assert explained(desk, job.id) == []


offers = st.fixed_dictionaries(
    {},
    optional={
        "accept_public_jobs": st.booleans(),
        "installed_services": st.sampled_from([services("asr", "nmt"), services("asr", "nmt", "tts")]),
        "language_capabilities": st.sampled_from([languages("en", "es"), languages("en", "fr")]),
        "cap": st.integers(1, 2),
    },
)
asked = st.fixed_dictionaries(
    {"src": st.sampled_from(["en", "es", "auto"]), "tgt": st.sampled_from(["es", "fr"])},
    optional={
        "pipeline": st.sampled_from([SUBTITLES, LISTENING]),
        "lang_a": st.just("en"),
        "lang_b": st.just("es"),
    },
)


def _state(desk: Desk) -> object:
    fleet, dispatch = desk.fleet, desk.dispatch
    return (
        fleet.table.statistics(),
        {
            node.id: (node.status, dict(node.no_work), fleet.slots_used(node.id))
            for node in fleet.nodes.values()
        },
        {job.id: (job.status, len(job.attempts)) for job in dispatch.jobs.values()},
        len(dispatch.waiting),
        dispatch.due(),
    )


@given(st.lists(offers, max_size=5), st.lists(asked, min_size=1, max_size=8), st.sets(st.integers(0, 4)))
def test_explain_and_select_agree_and_explain_changes_nothing(
    nodes: list[dict[str, Any]], jobs: list[dict[str, Any]], lost: set[int]
) -> None:
    desk = Desk()
    for number, members in enumerate(nodes):
        desk.node(f"n-{number}", **members)
    for number in lost & set(range(len(nodes))):
        desk.lose(f"n-{number}")
    made: list[Job] = [desk.submit(0, f"s-{number}", **members) for number, members in enumerate(jobs)]
    before = _state(desk)
    for job in made:
        assert explained(desk, job.id) == explained(desk, job.id)
    assert _state(desk) == before
    for job in made:
        found = survey(desk.fleet, job.key, job.lane.route, 1.0)
        row = desk.fleet.select(job.key, job.lane.route, 1.0)
        free = [one for one in found.candidates if one.veto is None]
        assert (row is None) == (not free)
        if row is not None:
            taken = desk.fleet.node_at(row).id
            assert [one.node_id for one in free if one.selected] == [taken]
            if len(free) <= CHOICES:
                best = min(one.finish_s for one in free if one.finish_s is not None)
                assert next(one.finish_s for one in free if one.selected) == best
            desk.fleet.table.release(row, 1.0)
