"""Services of a node and the marks of those it lacks (node-protocol 5.2, 7)."""

from __future__ import annotations

from core.support import Desk, fault, only, sent, services, told

from linguad.core.actions import ServiceMissing
from linguad.core.job import JobStatus
from linguad.core.services import Mark, MarkRules, Services, ServiceTable
from linguad.wire.node import CapabilityByType, InstalledService, JobError

RULES = MarkRules()
MISSING = JobError("MODEL_NOT_AVAILABLE", "no model", {"service_id": "nmt-service", "reason": "downloading"})


def anything(_device: str) -> bool:
    return True


def table(*types: str) -> ServiceTable:
    made = ServiceTable(RULES)
    made.update(services(*types), None, anything)
    return made


class TestTable:
    def test_running_and_installed(self) -> None:
        made = ServiceTable(RULES)
        made.update([*services("asr"), *services("tts", status="stopped")], None, anything)
        assert made.running == Services.ASR
        assert made.installed == Services.ASR | Services.TTS

    def test_capabilities_count_where_no_service_is_listed(self) -> None:
        made = ServiceTable(RULES)
        said = [CapabilityByType(type="asr", ready=False), CapabilityByType(type="nmt", ready=True)]
        made.update(services("asr"), said, anything)
        assert made.running == Services.ASR | Services.NMT

    def test_a_marked_service_takes_its_type_away_unless_another_has_it(self) -> None:
        made = ServiceTable(RULES)
        made.update([*services("asr"), InstalledService("second", "asr", status="running")], None, anything)
        assert made.mark("asr-service", 0.0) is Mark.HOLDS
        assert made.running == Services.ASR
        assert made.mark("second", 0.0) is Mark.HOLDS
        assert made.running == Services.NONE
        made.clear("second")
        assert made.running == Services.ASR
        assert made.marked == ["asr-service"]

    def test_an_unknown_service_marks_nothing(self) -> None:
        made = table("asr")
        assert made.mark("phantom", 0.0) is Mark.UNKNOWN
        assert made.running == Services.ASR

    def test_a_mark_ends_when_the_service_was_restarted(self) -> None:
        made = table("asr")
        made.mark("asr-service", 0.0)
        made.update(services("asr"), None, anything)
        assert made.running == Services.NONE, "still the same process"
        made.update(services("asr", status="stopped"), None, anything)
        made.update(services("asr"), None, anything)
        assert made.running == Services.ASR

    def test_thirty_reports_in_ten_seconds_are_believed(self) -> None:
        made = table("asr")
        believed = [made.mark("asr-service", number * 0.1) for number in range(31)]
        assert believed == [Mark.HOLDS] * 30 + [Mark.TOO_MANY]
        assert made.mark("asr-service", 10.1) is Mark.HOLDS


class TestInDispatch:
    def test_the_job_moves_at_once_and_the_node_gets_no_more_for_a_while(self) -> None:
        desk = Desk()
        desk.node("a", cap=9)
        job = desk.submit()
        desk.node("b", cap=9)
        actions = desk.answer(job.attempts[0], "failed", error=MISSING)
        assert only(ServiceMissing, actions) == [
            ServiceMissing("a", "nmt-service", Mark.HOLDS, "downloading")
        ]
        assert [message.job_id for message in sent(actions)] == [f"{job.id}~r2"]
        assert {desk.submit(0, f"s-{n}").attempts[0].node_id for n in range(2, 6)} == {"b"}
        assert desk.fleet.nodes["a"].status.value == "ready", "no fault of the node"

    def test_the_mark_ends_and_waiting_jobs_wake(self) -> None:
        desk = Desk(pending_timeout_s=100.0, max_age_s=200.0)
        desk.node("a")
        job = desk.submit()
        desk.answer(job.attempts[0], "failed", error=MISSING)
        assert job.status is JobStatus.PENDING
        assert sent(desk.wait(59.0)) == []
        assert len(sent(desk.wait(2.0))) == 1

    def test_when_nobody_has_the_model_the_client_is_told_that(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        desk.answer(job.attempts[0], "failed", error=MISSING)
        assert told(desk.wait(11.0)) == ["0:job_failed"]
        assert job.outcome is not None
        assert job.outcome.error == "MODEL_NOT_AVAILABLE"

    def test_an_unnamed_service_just_moves_the_job(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        desk.node("b")
        actions = desk.answer(job.attempts[0], "failed", error=fault("?", "MODEL_NOT_AVAILABLE"))
        assert only(ServiceMissing, actions) == []
        assert job.attempts[1].node_id == "b"
