"""Learned speed and deadlines (resolutions 24, 29, 31)."""

from __future__ import annotations

import pytest
from core.support import Desk, only, sent, told

from linguad.core.actions import AttemptEnded, Cancel
from linguad.core.health import Status
from linguad.core.job import AttemptEnd, Job, JobStatus
from linguad.core.key import Key
from linguad.core.rules import NodeRules
from linguad.core.services import Services
from linguad.core.speed import ENOUGH_ANSWERS, Speeds
from linguad.wire.common import ExtraResult, ServiceTimings

KEY = Key("en", "es", Services.ASR | Services.NMT | Services.TTS)
OTHER = Key("es", "en", Services.ASR | Services.NMT | Services.TTS)


class TestSpeeds:
    def test_unknown_is_as_fast_as_speech(self) -> None:
        assert Speeds().of("a", KEY) == 1.0

    def test_first_answer_counts_whole_then_a_fifth(self) -> None:
        speeds = Speeds()
        assert speeds.learn("a", KEY, audio_s=4.0, processing_s=1.0, response_s=1.0) == 4.0
        assert speeds.learn("a", KEY, audio_s=9.0, processing_s=1.0, response_s=1.0) == pytest.approx(5.0)

    def test_unknown_nodes_are_taken_for_the_median(self) -> None:
        speeds = Speeds()
        for node, speed in (("a", 1.0), ("b", 2.0), ("c", 30.0)):
            speeds.learn(node, KEY, audio_s=speed, processing_s=1.0, response_s=1.0)
        assert speeds.of("new", KEY) == 2.0
        assert speeds.of("new", OTHER) == 1.0

    def test_no_time_teaches_no_speed(self) -> None:
        speeds = Speeds()
        assert speeds.learn("a", KEY, audio_s=4.0, processing_s=0.0, response_s=1.0) == 1.0

    @pytest.mark.parametrize(("processing_s", "speed"), [(1e-320, 1e3), (1e-9, 1e3), (1e9, 1e-3)])
    def test_absurd_times_are_believed_within_bounds(self, processing_s: float, speed: float) -> None:
        speeds = Speeds()
        assert speeds.learn("a", KEY, audio_s=1.0, processing_s=processing_s, response_s=1.0) == speed
        assert speeds.of("new", KEY) == speed
        speeds.learn_stages("a", KEY, 1.0, ServiceTimings(asr_ms=1e-320))
        assert speeds.stages("a")["asr", "en"] == 1e3

    def test_the_median_follows_what_is_learned(self) -> None:
        speeds = Speeds()
        for number in range(100):
            speeds.learn(f"n{number}", KEY, audio_s=2.0, processing_s=1.0, response_s=1.0)
        assert speeds.of("new", KEY) == 2.0
        for number in range(100):
            for _ in range(20):
                speeds.learn(f"n{number}", KEY, audio_s=8.0, processing_s=1.0, response_s=1.0)
        assert speeds.of("new", KEY) == pytest.approx(8.0, rel=0.1)

    def test_a_deadline_needs_enough_answers(self) -> None:
        speeds = Speeds()
        for _ in range(ENOUGH_ANSWERS - 1):
            speeds.learn("a", KEY, 1.0, 1.0, response_s=6.0)
        assert speeds.deadline_s("a", KEY) is None
        speeds.learn("a", KEY, 1.0, 1.0, response_s=6.0)
        assert speeds.deadline_s("a", KEY) == 3 * 6.0 + 5

    def test_and_is_never_shorter_than_15_s(self) -> None:
        speeds = Speeds()
        for _ in range(ENOUGH_ANSWERS):
            speeds.learn("a", KEY, 1.0, 1.0, response_s=0.1)
        assert speeds.deadline_s("a", KEY) == 15.0

    def test_forgetting_a_node(self) -> None:
        speeds = Speeds()
        speeds.learn("a", KEY, 8.0, 1.0, 1.0)
        speeds.forget("a")
        assert speeds.of("a", KEY) == 1.0
        assert speeds.table("a") == {}


class TestInDispatch:
    def test_a_fast_node_gets_the_work(self) -> None:
        desk = Desk()
        for node, ms in (("slow", 4000), ("fast", 100)):
            desk.node(node)
            desk.answer(desk.submit(0, f"s-{node}").attempts[-1], processing_time_ms=ms)
            desk.lose(node)
        desk.node("slow")
        desk.node("fast")
        chosen = [desk.submit(0, f"s-new-{n}", seconds=0.1).attempts[-1].node_id for n in range(4)]
        assert chosen == ["fast"] * 4

    def test_a_learned_deadline_moves_the_job_early(self) -> None:
        desk = Desk()
        desk.node("a", cap=1)
        for index in range(ENOUGH_ANSWERS):
            desk.answer(desk.submit(index).attempts[-1], processing_time_ms=100)
        desk.submit(50)
        assert only(Cancel, desk.wait(14.9)) == []
        assert [c.message.reason for c in only(Cancel, desk.wait(0.2))] == ["job_timeout"]

    def test_silence_of_a_node_that_answers_others_is_not_its_fault(self) -> None:
        desk, held = self.silent_job()
        first = held.attempts[0]
        desk.node("b")
        actions = desk.wait(30.0)
        assert only(AttemptEnded, actions)[0].attempt is first
        assert first.end is AttemptEnd.SILENT
        assert desk.fleet.nodes["a"].status is Status.READY
        assert [message.job_id for message in sent(actions)] == [f"{held.id}~r2"]

    def test_silent_twice_is_the_end(self) -> None:
        desk, held = self.silent_job()
        desk.node("b")
        desk.wait(21.0)
        desk.lose("a")
        desk.now += 1.0
        desk.answer(desk.submit(0, "s-another").attempts[-1])
        actions = desk.wait(21.0)
        assert [attempt.end for attempt in held.attempts] == [AttemptEnd.SILENT] * 2
        assert held.status is JobStatus.FAILED
        assert told(actions) == ["0:job_timeout"]

    def test_a_node_that_answers_nobody_is_to_blame(self) -> None:
        desk = Desk(NodeRules(failure_count=1), timeout_base_s=20.0)
        desk.node("a")
        held = desk.submit(0)
        desk.wait(21.0)
        assert held.attempts[0].end is AttemptEnd.TIMEOUT
        assert desk.fleet.nodes["a"].status is Status.DEGRADED

    def silent_job(self) -> tuple[Desk, Job]:
        """A job its node says nothing of, while it answers another one."""
        desk = Desk(timeout_base_s=20.0)
        desk.node("a")
        held = desk.submit(0, "s-held")
        desk.now += 1.0
        desk.answer(desk.submit(0, "s-other").attempts[-1])
        return desk, held


class TestStages:
    """Where nodes tell how long each stage took (resolution 31)."""

    TIMINGS = ServiceTimings(asr_ms=1000, nmt_ms=500, tts_ms=250)

    def test_speed_per_stage_and_language(self) -> None:
        speeds = Speeds()
        speeds.learn_stages("a", KEY, 2.0, self.TIMINGS)
        speeds.learn_stages("a", KEY, 2.0, ServiceTimings(asr_ms=500))
        assert speeds.stages("a") == pytest.approx(
            {("asr", "en"): 2.4, ("nmt", "en>es"): 4.0, ("tts", "es"): 8.0}
        )

    def test_a_job_never_done_is_judged_by_its_stages(self) -> None:
        speeds = Speeds()
        speeds.learn_stages("a", KEY, 2.0, self.TIMINGS)
        assert speeds.of("a", KEY) == pytest.approx(1 / (1 / 2 + 1 / 4 + 1 / 8))
        assert speeds.of("a", KEY._replace(needs=Services.ASR | Services.NMT)) == pytest.approx(1 / 0.75)
        assert speeds.of("a", OTHER) == 1.0
        assert speeds.of("a", KEY._replace(needs=Services.ASR | Services.TONE)) == 1.0

    def test_they_are_learned_from_results(self) -> None:
        desk = Desk()
        desk.node("a")
        extra = ExtraResult(service_timings=self.TIMINGS)
        desk.answer(desk.submit(seconds=2.0).attempts[0], extra=extra, processing_time_ms=2000.0)
        assert desk.fleet.speeds.stages("a")["asr", "en"] == 2.0

    def test_they_go_with_the_node(self) -> None:
        speeds = Speeds()
        speeds.learn_stages("a", KEY, 2.0, self.TIMINGS)
        speeds.forget("a")
        assert speeds.stages("a") == {}
