"""The life of jobs, rule by rule: events in, actions out (node-protocol 6)."""

from __future__ import annotations

from typing import Any

import pytest
from core.support import SPEECH, SUBTITLES, Desk, fault, languages, only, sent, services, told

from linguad.core.actions import (
    Action,
    Assign,
    AttemptEnded,
    AudioReleased,
    Cancel,
    Deliver,
    Dropped,
    Partial,
    Progress,
)
from linguad.core.asking import key_for
from linguad.core.job import AttemptEnd, AttemptState, JobStatus, MissingReason
from linguad.core.lanes import MAX_NUMBERS
from linguad.core.rules import JobRules
from linguad.core.utterance import CutReason
from linguad.errors import ErrorCode
from linguad.wire.common import FeatureFlags
from linguad.wire.node import JobAck, JobStarted, NodeAsrPartial

SLICE = CutReason.MAX_DURATION


def kinds(actions: list[Action]) -> list[str]:
    """Actions by name, with what matters about each."""
    found = []
    for action in actions:
        match action:
            case Assign():
                found.append(f"assign {action.message.job_id} to {action.attempt.node_id}")
            case Progress():
                found.append(action.event)
            case AttemptEnded():
                found.append(f"{action.attempt.end} on {action.attempt.node_id}")
            case Cancel():
                found.append(f"cancel {action.message.job_id} on {action.node_id}: {action.message.reason}")
            case Dropped():
                found.append(f"dropped {action.why}")
            case Deliver():
                found.append(f"deliver {told([action])[0]}")
            case _:
                found.append(type(action).__name__)
    return found


class TestPlainJob:
    def test_from_submission_to_delivery(self) -> None:
        desk = Desk()
        desk.node("a")
        job, actions = desk.submitted()
        assert kinds(actions) == ["assign job-1 to a", "DISPATCHED"]
        assert job.status is JobStatus.ASSIGNED
        assert desk.used("a") == 1
        assert kinds(desk.answer(job.attempts[0])) == [
            "ok on a",
            "ASR_FINAL",
            "NMT_DONE",
            "AudioReleased",
            "deliver 0:hola",
        ]
        assert job.status is JobStatus.COMPLETED
        assert desk.used("a") == 0
        assert desk.dispatch.open_jobs == 0

    def test_audio_is_kept_until_the_end_and_then_given_back(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        assert job.audio is not None
        size = len(job.audio.base64)
        assert only(AudioReleased, desk.answer(job.attempts[0])) == [AudioReleased(size)]
        assert job.audio is None

    def test_a_node_that_never_acks_is_fine(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        assert job.attempts[0].state is AttemptState.DISPATCHED
        desk.answer(job.attempts[0])
        assert job.attempts[0].state is AttemptState.FINISHED

    def test_no_text_without_words_for_the_screen(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        actions = desk.answer(job.attempts[0], text_asr=None, text_translated=None)
        assert only(Progress, actions) == []
        assert told(actions) == ["0:"]

    def test_blank_translation_is_delivered(self) -> None:
        """Known node behaviour when its translation failed (6.6)."""
        desk = Desk()
        desk.node("a")
        actions = desk.answer(desk.submit().attempts[0], "heard")
        assert told(actions) == ["0:"]

    def test_refused_for_memory(self) -> None:
        desk = Desk()
        desk.node("a")
        job, actions = desk.submitted(refuse=True)
        assert kinds(actions) == ["AudioReleased", "deliver 0:node_overloaded"]
        assert job.outcome is not None
        assert job.outcome.error is ErrorCode.NODE_OVERLOADED
        assert desk.dispatch.open_jobs == 0

    def test_too_many_wait(self) -> None:
        desk = Desk(max_waiting=2)
        waiting = [desk.submit(index) for index in range(3)]
        assert [job.status for job in waiting] == [JobStatus.PENDING, JobStatus.PENDING, JobStatus.FAILED]


class TestAssignment:
    """What the node is sent (node-protocol 2.5)."""

    def test_the_message(self) -> None:
        desk = Desk()
        desk.node("a")
        flags = FeatureFlags(emotion_detection=True)
        (message,) = sent(
            desk.submitted(
                3,
                seconds=2.0,
                src="auto",
                pipeline=SUBTITLES,
                turn_id="turn-9",
                padding_ms=220,
                lang_a="en",
                lang_b="es",
                auto_langs=["en", "es"],
                mode="two_way_auto",
                dialect="andaluz",
                features=flags,
                enable_streaming_asr=False,
                partial_update_interval_ms=500,
            )[1]
        )
        assert (message.job_id, message.attempt_id, message.session_id) == ("job-1", 1, "s-1")
        assert (message.utterance_index, message.turn_id, message.trace_id) == (3, "turn-9", "t-1")
        assert (message.src_lang, message.tgt_lang, message.mode) == ("auto", "es", "two_way_auto")
        assert (message.lang_a, message.lang_b, message.auto_langs) == ("en", "es", ["en", "es"])
        assert (message.dialect, message.features, message.pipeline) == ("andaluz", flags, SUBTITLES)
        assert (message.audio, message.audio_format, message.sample_rate) == ("c291bmQ=", "opus", 16000)
        assert (message.enable_streaming_asr, message.partial_update_interval_ms) == (False, 500)
        assert message.padding_ms == 220

    @pytest.mark.parametrize(
        ("members", "sent_pair"),
        [
            ({"src": "auto"}, True),
            ({"src": "AUTO", "mode": "one_way"}, True),
            ({"mode": "two_way_auto"}, True),
            ({"mode": "one_way"}, False),
            ({}, False),
        ],
    )
    def test_a_pair_of_languages_only_where_the_node_is_to_choose(
        self, members: dict[str, Any], sent_pair: bool
    ) -> None:
        desk = Desk()
        desk.node("a")
        (message,) = sent(desk.submitted(lang_a="en", lang_b="es", **members)[1])
        assert (message.lang_a, message.lang_b) == (("en", "es") if sent_pair else (None, None))

    @pytest.mark.parametrize("old", [False, True])
    @pytest.mark.parametrize(
        ("reason", "flag", "old_flag"),
        [
            (CutReason.MANUAL, "is_manual_cut", "is_manual_cut"),
            (CutReason.CLOSE, "is_manual_cut", "is_manual_cut"),
            (CutReason.TIMEOUT, "is_timeout_triggered", "is_pause_triggered"),
            (CutReason.MAX_DURATION, "is_max_duration_triggered", "is_timeout_triggered"),
            (CutReason.MAX_LENGTH, "is_max_duration_triggered", "is_timeout_triggered"),
        ],
    )
    def test_exactly_one_flag_in_the_words_of_the_generation(
        self, reason: CutReason, flag: str, old_flag: str, old: bool
    ) -> None:
        desk = Desk()
        desk.node("a", language_capabilities=languages("en", "es", semantic_core_ready=None if old else True))
        (message,) = sent(desk.submitted(reason=reason)[1])
        flags = ("is_manual_cut", "is_timeout_triggered", "is_max_duration_triggered", "is_pause_triggered")
        assert [name for name in flags if getattr(message, name)] == [old_flag if old else flag]


class TestWireIdentity:
    """The table of node-protocol 6.2."""

    def test_first_attempt_has_plain_names(self) -> None:
        desk = Desk()
        desk.node("a")
        (message,) = sent(desk.submitted(lane="s-1#es")[1])
        assert (message.session_id, message.job_id, message.attempt_id) == ("s-1#es", "job-1", 1)

    def test_a_retry_has_fresh_names(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        (message,) = sent(desk.answer(job.attempts[0], "failed"))
        assert (message.session_id, message.job_id, message.attempt_id) == ("s-1~r2", "job-1~r2", 2)
        (message,) = sent(desk.answer(job.attempts[1], "failed"))
        assert (message.session_id, message.job_id, message.attempt_id) == ("s-1~r3", "job-1~r3", 3)

    def test_a_retry_never_goes_back_in_a_wire_session(self) -> None:
        """A node leaves a lower index untranslated, and refuses the same one (0.3 items 5 and 6)."""
        desk = Desk()
        desk.node("a")
        first, second = desk.submit(0), desk.submit(1)
        (message,) = sent(desk.answer(second.attempts[0], "failed"))
        assert message.session_id == "s-1~r2"
        (message,) = sent(desk.answer(first.attempts[0], "failed"))
        assert (message.session_id, message.job_id, message.attempt_id) == ("s-1~r3", "job-1~r3", 3)

    def test_an_utterance_that_came_too_late_is_no_step_back_either(self) -> None:
        desk = Desk()
        desk.node("a")
        desk.submit(5)
        (message,) = sent(desk.submitted(4)[1])
        assert (message.session_id, message.job_id) == ("s-1~r2", "job-2~r2")

    def test_the_same_utterance_in_another_language(self) -> None:
        desk = Desk()
        desk.node("a", "en", "es", "fr")
        desk.submit(0, tgt="es")
        (message,) = sent(desk.submitted(0, tgt="fr")[1])
        assert message.session_id == "s-1~r2"


class TestProgress:
    """The attempt's table of node-protocol 6.3."""

    def test_ack_start_partial(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        assert kinds(desk.dispatch.progress(JobAck(job_id="job-1"), "a")) == ["NODE_ACCEPTED"]
        assert job.attempts[0].state is AttemptState.ACCEPTED
        assert desk.dispatch.progress(JobAck(job_id="job-1"), "a") == []
        assert desk.dispatch.progress(JobStarted(job_id="job-1"), "a") == []
        assert job.attempts[0].state is AttemptState.RUNNING
        assert desk.dispatch.progress(JobAck(job_id="job-1"), "a") == []
        assert job.attempts[0].state is AttemptState.RUNNING

    def test_partial_counts_as_started(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        message = NodeAsrPartial(job_id="job-1", node_id="a", text="hel", is_final=False)
        assert desk.dispatch.progress(message, "a") == [Partial(job, "hel", False)]
        assert job.attempts[0].state is AttemptState.RUNNING

    def test_only_from_the_node_that_has_the_job(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        desk.node("b")
        for message in (
            JobAck(job_id="job-1"),
            JobStarted(job_id="job-1"),
            NodeAsrPartial(job_id="job-1", node_id="b", text="x"),
        ):
            assert kinds(desk.dispatch.progress(message, "b")) == ["dropped stale_progress"]
        assert kinds(desk.dispatch.progress(JobAck(job_id="job-9"), "a")) == ["dropped stale_progress"]
        desk.answer(job.attempts[0], "failed")
        assert kinds(desk.dispatch.progress(JobAck(job_id="job-1"), "a")) == ["dropped stale_progress"]
        desk.answer(job.attempts[1])
        assert kinds(desk.dispatch.progress(JobAck(job_id="job-1~r2"), job.attempts[1].node_id)) == [
            "dropped stale_progress"
        ]


class TestOrder:
    """Node-protocol 6.4: one lane is sent in order of utterance."""

    def test_later_utterances_wait_behind_one_that_waits(self) -> None:
        desk = Desk()
        desk.node("a", "en", "es")
        first = desk.submit(0, src="zh")
        second = desk.submit(1, src="en")
        assert (first.status, second.status) == (JobStatus.PENDING, JobStatus.PENDING)
        assert [message.job_id for message in sent(desk.node("b", "zh", "es"))] == [first.id, second.id]

    def test_and_go_when_it_gives_up(self) -> None:
        desk = Desk()
        desk.node("a", "en", "es")
        desk.submit(0, src="zh")
        desk.wait(4.0)
        second = desk.submit(1, src="en")
        actions = desk.wait(6.0)
        assert told(actions) == ["0:no_available_node"]
        assert [message.job_id for message in sent(actions)] == [second.id]

    def test_and_go_when_it_is_answered_after_all(self) -> None:
        """The first one waits for another node; its old node, of no use to the second, answers meanwhile."""
        desk = Desk()
        desk.node("a", "zh", "es")
        first = desk.submit(0, src="zh")
        desk.node("b", "en", "es")
        desk.lose("a")
        second = desk.submit(1, src="en")
        assert second.status is JobStatus.PENDING
        desk.node("a", "zh", "fr")
        actions = desk.answer(first.attempts[0])
        assert told(actions) == ["0:hola"]
        assert [message.job_id for message in sent(actions)] == [second.id]

    def test_lanes_do_not_wait_for_each_other(self) -> None:
        desk = Desk()
        desk.node("a", "en", "es")
        desk.submit(0, src="zh")
        assert desk.submit(0, "s-2", src="en").status is JobStatus.ASSIGNED

    def test_retried_ones_go_before_later_ones(self) -> None:
        desk = Desk()
        desk.node("a", cap=2)
        for index in range(4):
            desk.submit(index)
        desk.lose("a")
        actions = desk.node("b", cap=4)
        assert [message.utterance_index for message in sent(actions)] == [0, 1, 2, 3]

    def test_oldest_first_when_a_slot_is_free(self) -> None:
        desk = Desk()
        desk.node("a", cap=1)
        running = desk.submit(0, "s-1")
        for number in range(2, 5):
            desk.submit(0, f"s-{number}")
        (message,) = sent(desk.answer(running.attempts[0]))
        assert message.session_id == "s-2"


class TestWaiting:
    def test_without_any_node(self) -> None:
        desk = Desk()
        job = desk.submit()
        assert told(desk.wait(9.9)) == []
        assert told(desk.wait(0.1)) == ["0:no_available_node"]
        assert job.status is JobStatus.FAILED
        assert job.outcome is not None
        assert job.outcome.error is ErrorCode.NO_AVAILABLE_NODE
        assert job.outcome.details == {"src": "en", "tgt": "es", "reason": "no_nodes"}
        assert desk.dispatch.due() is None

    def test_all_nodes_busy(self) -> None:
        desk = Desk()
        desk.node("a", cap=1)
        desk.submit(0, "s-1")
        waiting = desk.submit(0, "s-2")
        assert told(desk.wait(10.0)) == ["0:node_overloaded"]
        assert waiting.outcome is not None
        assert waiting.outcome.error is ErrorCode.NODE_OVERLOADED

    def test_a_node_comes_in_time(self) -> None:
        desk = Desk()
        first, second = desk.submit(0), desk.submit(1)
        desk.wait(5.0)
        assert [message.job_id for message in sent(desk.node("a"))] == [first.id, second.id]

    def test_a_node_that_learns_the_language_is_found(self) -> None:
        desk = Desk()
        desk.node("a", "en", "fr")
        desk.submit()
        assert len(sent(desk.beat("a", language_capabilities=languages("en", "es")))) == 1

    def test_a_node_that_starts_its_services_is_found(self) -> None:
        desk = Desk()
        desk.node("a", installed_services=services("asr"))
        desk.submit()
        assert len(sent(desk.beat("a", installed_services=services("asr", "nmt", "tts")))) == 1

    @pytest.mark.parametrize("kind", ["complete", "empty", "no_text", "failed"])
    def test_a_slot_that_comes_back_is_used(self, kind: str) -> None:
        desk = Desk(failover_max_attempts=0)
        desk.node("a", cap=1)
        running = desk.submit(0, "s-1")
        waiting = desk.submit(0, "s-2")
        assert [message.job_id for message in sent(desk.answer(running.attempts[0], kind))] == [waiting.id]

    def test_a_slot_that_comes_back_by_a_deadline_is_used(self) -> None:
        desk = Desk(pending_timeout_s=100.0, failover_max_attempts=0)
        desk.node("a", cap=1)
        desk.submit(0, "s-1")
        waiting = desk.submit(0, "s-2")
        assert [message.job_id for message in sent(desk.wait(61.0))] == [waiting.id]

    def test_a_slot_that_comes_back_by_a_cancelled_session_is_used(self) -> None:
        desk = Desk()
        desk.node("a", cap=1)
        desk.submit(0, "s-1")
        waiting = desk.submit(0, "s-2")
        assert [message.job_id for message in sent(desk.dispatch.session_ended("s-1", desk.now))] == [
            waiting.id
        ]

    def test_a_slot_of_a_superseded_attempt_is_used(self) -> None:
        """The answer comes from one node, the slot comes back on another that alone serves who waits."""
        desk = Desk()
        desk.node("a", cap=1)
        job = desk.submit(0, "s-1")
        desk.node("b", "en", "es", "fr", cap=1)
        desk.wait(60.9)
        waiting = desk.submit(0, "s-2", tgt="fr")
        desk.answer(waiting.attempts[0])
        desk.wait(0.2)
        assert job.attempts[1].node_id == "b"
        waiting = desk.submit(1, "s-2", tgt="fr")
        assert waiting.status is JobStatus.PENDING
        actions = desk.answer(job.attempts[0])
        assert only(Cancel, actions)[0].node_id == "b"
        assert [(action.job, action.attempt.node_id) for action in only(Assign, actions)] == [(waiting, "b")]

    def test_slots_of_merged_slices_are_used(self) -> None:
        desk = Desk()
        desk.node("a", cap=2)
        desk.submit(0, reason=SLICE, turn_id="t")
        closing = desk.submit(1, turn_id="t")
        desk.submit(0, "s-2")
        desk.submit(0, "s-3")
        actions = desk.answer(closing.attempts[0])
        assert [message.session_id for message in sent(actions)] == ["s-2", "s-3"]

    def test_the_limit_counts_from_each_time_it_waits(self) -> None:
        """Resolution 28: also between attempts."""
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        desk.wait(30.0)
        desk.lose("a")
        assert told(desk.wait(9.9)) == []
        assert told(desk.wait(0.2)) == ["0:node_lost"]
        assert job.outcome is not None
        assert job.outcome.error is ErrorCode.NODE_UNAVAILABLE

    def test_the_limit_is_cut_by_the_age_of_the_job(self) -> None:
        desk = Desk(max_age_s=40.0)
        desk.node("a")
        desk.submit()
        desk.wait(35.0)
        desk.lose("a")
        assert told(desk.wait(4.9)) == []
        assert told(desk.wait(0.1)) == ["0:node_lost"]

    def test_a_two_way_job_takes_one_direction_when_nobody_does_both(self) -> None:
        desk = Desk()
        desk.node("both", "en", "es")
        job = desk.submit(src="auto", lang_a="en", lang_b="es")
        assert job.attempts[0].node_id == "both"
        desk.node("there", language_capabilities=languages("en", tts_languages=["es"]))
        assert [action.attempt.node_id for action in only(Assign, desk.lose("both"))] == ["there"]

    def test_nor_when_who_did_both_lacks_a_model(self) -> None:
        desk = Desk()
        desk.node("both", "en", "es", cap=1)
        desk.node("there", cap=1, language_capabilities=languages("en", tts_languages=["es"]))
        two_way = {"src": "auto", "lang_a": "en", "lang_b": "es"}
        desk.submit(0, "s-1", **two_way)
        one_way = desk.submit(0, "s-2")
        waiting = desk.submit(0, "s-3", **two_way)
        desk.dispatch.service_missing("both", "nmt-service", "error", desk.now)
        desk.answer(one_way.attempts[0])
        assert [attempt.node_id for attempt in waiting.attempts] == ["there"]


class TestDeadlines:
    """Node-protocol 6.5."""

    @pytest.mark.parametrize(
        ("base", "factor", "longest", "audio_s", "timeout_s"),
        [
            (30, 0.5, 60, 0.0, 30),
            (30, 0.5, 60, 1.0, 31),
            (30, 0.5, 60, 10.0, 35),
            (30, 0.5, 60, 60.0, 60),
            (30, 0.5, 60, 200.0, 60),
            (10, 0.01, 60, 0.1, 15),
            (60, 0.5, 120, 10.0, 65),
        ],
    )
    def test_running_time(
        self, base: float, factor: float, longest: float, audio_s: float, timeout_s: float
    ) -> None:
        rules = JobRules(timeout_base_s=base, timeout_factor=factor, timeout_max_s=longest)
        assert rules.running_timeout_s(audio_s) == timeout_s

    def test_a_silent_node_loses_the_job(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit(seconds=10.0)
        desk.node("b")
        assert desk.wait(64.9) == []
        assert kinds(desk.wait(0.1)) == [
            "timeout on a",
            "cancel job-1 on a: job_timeout",
            "assign job-1~r2 to b",
            "DISPATCHED",
        ]
        assert (desk.used("a"), desk.used("b")) == (0, 1)
        assert told(desk.answer(job.attempts[1])) == ["0:hola"]

    def test_without_cancel(self) -> None:
        desk = Desk(send_cancel=False)
        desk.node("a")
        desk.submit()
        assert only(Cancel, desk.wait(61.0)) == []

    def test_without_cancel_from_now_on(self) -> None:
        desk = Desk()
        desk.node("a")
        desk.submit()
        desk.dispatch.placement.change_rules(JobRules(send_cancel=False))
        assert only(Cancel, desk.wait(61.0)) == []

    def test_retries_exhausted(self) -> None:
        desk = Desk(max_age_s=1000.0)
        desk.node("a")
        job = desk.submit()
        actions: list[Action] = []
        for _ in range(20):
            actions += desk.wait(15.0)
            desk.beat("a")
        assert told(actions) == ["0:job_timeout"]
        assert [attempt.number for attempt in job.attempts] == [1, 2, 3, 4]
        assert len(only(Cancel, actions)) == 4
        assert desk.used("a") == 0

    def test_too_old_for_another_attempt(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        for _ in range(10):
            desk.wait(60.0)
            desk.beat("a")
        assert [attempt.number for attempt in job.attempts] == [1, 2, 3]
        assert job.outcome is not None
        assert job.outcome.missing is MissingReason.JOB_TIMEOUT

    def test_blames_the_node(self) -> None:
        desk = Desk()
        desk.node("a")
        for index in range(3):
            desk.submit(0, f"s-{index}")
        desk.wait(61.0)
        assert not desk.fleet.has_ready(key_for(desk.fleet, "en", "es", SPEECH))

    def test_a_slice_the_node_keeps_is_merged_in_silence(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit(reason=SLICE, seconds=10.0)
        actions = desk.wait(65.0)
        assert kinds(actions) == ["merged on a", "AudioReleased", "deliver 0:merged"]
        assert job.status is JobStatus.COMPLETED_NO_TEXT
        assert job.outcome is not None
        assert job.outcome.error is None
        assert desk.used("a") == 0

    def test_the_end_of_a_turn_ends_its_slices(self) -> None:
        desk = Desk()
        desk.node("a", cap=5)
        slices = [desk.submit(index, reason=SLICE, turn_id="t") for index in range(3)]
        other = desk.submit(3, reason=SLICE, turn_id="u")
        closing = desk.submit(4, turn_id="t")
        actions = desk.answer(closing.attempts[0])
        assert told(actions) == ["0:merged", "1:merged", "2:merged", "4:hola"]
        assert all(job.status is JobStatus.COMPLETED_NO_TEXT for job in slices)
        assert other.status is JobStatus.ASSIGNED
        assert desk.used("a") == 1

    @pytest.mark.parametrize("kind", ["empty", "no_text", "failed"])
    def test_however_it_ends(self, kind: str) -> None:
        desk = Desk(failover_max_attempts=0)
        desk.node("a")
        desk.submit(0, reason=SLICE, turn_id="t")
        closing = desk.submit(1, turn_id="t")
        assert told(desk.answer(closing.attempts[0], kind))[0] == "0:merged"
        assert desk.used("a") == 0

    def test_a_slice_of_another_target_is_not_ended(self) -> None:
        desk = Desk()
        desk.node("a", "en", "es", "fr")
        desk.submit(0, reason=SLICE, turn_id="t", tgt="fr", lane="s-1#fr")
        closing = desk.submit(1, turn_id="t")
        assert told(desk.answer(closing.attempts[0])) == ["1:hola"]

    def test_a_slice_does_not_end_others(self) -> None:
        desk = Desk()
        desk.node("a")
        desk.submit(0, reason=SLICE, turn_id="t")
        second = desk.submit(1, reason=SLICE, turn_id="t")
        assert told(desk.answer(second.attempts[0])) == ["1:hola"]


class TestFailures:
    """The table of node-protocol 6.6."""

    def desk(self) -> Desk:
        desk = Desk()
        desk.node("a")
        return desk

    @pytest.mark.parametrize(
        ("error", "blamed"),
        [
            (fault("x", "MODEL_NOT_AVAILABLE"), False),
            (fault("SEM_REPAIR_UNAVAILABLE: SERVICE_NOT_AVAILABLE"), True),
            (fault("SEM_REPAIR_TIMEOUT: SERVICE_TIMEOUT"), True),
            (fault("SEM_REPAIR_ERROR: SERVICE_ERROR"), True),
            (fault("GPU lease timeout"), True),
            (fault("No available ASR service"), True),
            (fault("SequentialExecutor: too late"), False),
            (fault("", "NODE_OVERLOADED"), True),
            (fault("", "MODEL_LOAD_FAILED"), True),
            (fault("", "MODEL_CORRUPTED"), True),
            (fault("", "NMT_TIMEOUT"), True),
            (fault("whatever", "NEVER_HEARD_OF"), True),
            (None, True),
        ],
    )
    def test_tried_elsewhere(self, error: Any, blamed: bool) -> None:
        desk = self.desk()
        job = desk.submit()
        desk.node("b")
        actions = desk.answer(job.attempts[0], "failed", error=error)
        assert kinds(actions) == ["failed on a", "assign job-1~r2 to b", "DISPATCHED"]
        row = desk.fleet.row_of("a")
        assert row is not None
        assert list(desk.fleet.node_at(row).health._outcomes) == [False] * blamed

    @pytest.mark.parametrize(
        "message",
        [
            "SEM_REPAIR_UNSUPPORTED_LANG: xx",
            "LID_INVALID_CANDIDATES",
            "ASR_STEP_INVALID_LANG_CONTRACT",
            "Unsupported audio format: wav",
            "invalid Opus packet",
        ],
    )
    def test_the_job_itself_is_wrong(self, message: str) -> None:
        desk = self.desk()
        desk.node("b")
        job = desk.submit()
        actions = desk.answer(job.attempts[0], "failed", error=fault(message))
        assert told(actions) == ["0:job_failed"]
        assert sent(actions) == []
        assert job.outcome is not None
        assert job.outcome.error is ErrorCode.INTERNAL_ERROR
        assert job.outcome.details == {"node_error": "PROCESSING_ERROR"}

    @pytest.mark.parametrize("message", ["DUPLICATE_JOB_ID: job-1", "DUPLICATE_UTTERANCE_INDEX: 0"])
    def test_a_name_used_twice_may_be_tried_on_the_same_node(self, message: str) -> None:
        desk = self.desk()
        job = desk.submit()
        (assign,) = only(Assign, desk.answer(job.attempts[0], "failed", error=fault(message)))
        assert (assign.attempt.node_id, assign.message.session_id) == ("a", "s-1~r2")

    def test_written_frame_lost_with_its_connection(self) -> None:
        desk = self.desk()
        desk.submit()
        desk.node("b")
        assert kinds(desk.lose("a")) == ["node_lost on a", "assign job-1~r2 to b", "DISPATCHED"]

    def test_the_node_that_failed_is_asked_again_only_if_there_is_no_other(self) -> None:
        """Pass C of 5.3: a lone node gets its second chance at once."""
        desk = self.desk()
        job = desk.submit()
        assert [
            action.attempt.node_id for action in only(Assign, desk.answer(job.attempts[0], "failed"))
        ] == ["a"]

    def test_not_while_the_others_are_merely_busy(self) -> None:
        """A node that fails fast would eat all attempts of the job within milliseconds."""
        desk = self.desk()
        job = desk.submit()
        desk.node("b", cap=1)
        busy = desk.submit(0, "s-2")
        while busy.attempts[0].node_id != "b":
            busy = desk.submit(0, busy.request.session_id + "x")
        assert sent(desk.answer(job.attempts[0], "failed")) == []
        assert job.status is JobStatus.PENDING
        (assign,) = only(Assign, desk.answer(busy.attempts[0]))
        assert (assign.job, assign.attempt.node_id) == (job, "b")

    def test_a_job_that_avoids_a_node_does_not_hold_up_the_queue(self) -> None:
        desk = Desk()
        desk.node("a", cap=1)
        desk.node("b", cap=1)
        first, second = desk.submit(0, "s-1"), desk.submit(0, "s-2")
        behind = desk.submit(0, "s-3")
        node_id = first.attempts[0].node_id
        actions = desk.answer(first.attempts[0], "failed")
        assert [(action.job, action.attempt.node_id) for action in only(Assign, actions)] == [
            (behind, node_id)
        ]
        (assign,) = only(Assign, desk.answer(second.attempts[0]))
        assert assign.job is first

    def test_total_attempts(self) -> None:
        desk = self.desk()
        job = desk.submit()
        actions: list[Action] = []
        while not job.status.final:
            desk.beat("a")
            actions += desk.answer(job.attempts[-1], "failed")
        assert len(job.attempts) == 4
        assert told(actions) == ["0:job_failed"]
        assert job.outcome is not None
        assert job.outcome.error is ErrorCode.INTERNAL_ERROR

    def test_more_failed_nodes_than_a_selection_may_exclude(self) -> None:
        desk = Desk(failover_max_attempts=20)
        for number in range(8):
            desk.node(f"n{number}", cap=1)
        job = desk.submit()
        for _ in range(7):
            desk.answer(job.attempts[-1], "failed")
        assert len(job.attempts) == 8
        assert len({attempt.node_id for attempt in job.attempts[:5]}) == 5

    def test_the_reason_after_waiting_in_vain_is_the_failure(self) -> None:
        desk = self.desk()
        job = desk.submit()
        desk.lose("a")
        assert told(desk.wait(10.0)) == ["0:node_lost"]
        assert job.outcome is not None
        assert job.outcome.error is ErrorCode.NODE_UNAVAILABLE


class TestResults:
    """The decision table of node-protocol 6.7."""

    def retried(self) -> tuple[Desk, Any]:
        """A job that timed out on `a` and runs on `b`."""
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        desk.node("b")
        desk.wait(61.0)
        assert [attempt.node_id for attempt in job.attempts] == ["a", "b"]
        return desk, job

    def test_unknown_job(self) -> None:
        desk = Desk()
        desk.node("a")
        attempt = desk.submit().attempts[0]
        assert kinds(desk.answer(attempt, job_id="job-77")) == ["dropped unknown_job"]

    def test_wrong_node(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        desk.node("b")
        assert kinds(desk.answer(job.attempts[0], by="b")) == ["dropped wrong_node"]
        assert job.status is JobStatus.ASSIGNED

    def test_no_text_for_the_current_attempt(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        assert kinds(desk.answer(job.attempts[0], "no_text", attempt_id=9)) == [
            "merged on a",
            "AudioReleased",
            "deliver 0:merged",
        ]
        assert job.status is JobStatus.COMPLETED_NO_TEXT

    def test_no_text_for_an_earlier_attempt(self) -> None:
        desk, job = self.retried()
        assert kinds(desk.answer(job.attempts[0], "no_text")) == [
            "superseded on b",
            "cancel job-1~r2 on b: superseded",
            "AudioReleased",
            "deliver 0:merged",
        ]
        assert (desk.used("a"), desk.used("b")) == (0, 0)
        assert desk.lose("b") == []

    def test_complete_for_the_current_attempt(self) -> None:
        desk, job = self.retried()
        assert told(desk.answer(job.attempts[1])) == ["0:hola"]
        assert (desk.used("a"), desk.used("b")) == (0, 0)

    def test_complete_for_an_earlier_attempt_wins(self) -> None:
        desk, job = self.retried()
        assert kinds(desk.answer(job.attempts[0])) == [
            "superseded on b",
            "cancel job-1~r2 on b: superseded",
            "ASR_FINAL",
            "NMT_DONE",
            "AudioReleased",
            "deliver 0:hola",
        ]
        assert (desk.used("a"), desk.used("b")) == (0, 0)
        assert kinds(desk.answer(job.attempts[1])) == ["dropped duplicate"]

    def test_complete_for_an_earlier_attempt_while_the_job_waits(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        desk.lose("a")
        desk.node("a", "en", "fr")
        assert told(desk.answer(job.attempts[0])) == ["0:hola"]
        assert len(desk.dispatch.waiting) == 0
        assert told(desk.wait(100.0)) == []

    @pytest.mark.parametrize("kind", ["empty", "failed"])
    def test_nothing_from_an_earlier_attempt_is_dropped(self, kind: str) -> None:
        desk, job = self.retried()
        assert kinds(desk.answer(job.attempts[0], kind)) == ["dropped stale_attempt"]
        assert told(desk.answer(job.attempts[1])) == ["0:hola"]

    @pytest.mark.parametrize(
        ("members", "name"), [({}, "empty"), ({"extra": None, "text_asr": " ", "tts_audio": ""}, "blank")]
    )
    def test_empty_and_blank(self, members: dict[str, Any], name: str) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        assert kinds(desk.answer(job.attempts[0], "empty", **members)) == [
            "empty on a",
            "AudioReleased",
            "deliver 0:silence_detected",
        ]
        assert job.status is JobStatus.COMPLETED_NO_TEXT

    def test_empty_slice_of_a_turn_is_merged(self) -> None:
        desk = Desk()
        desk.node("a")
        assert told(desk.answer(desk.submit(reason=SLICE).attempts[0], "empty")) == ["0:merged"]

    def test_partial_turn_is_shown_at_once_and_merged_with_the_end_of_its_turn(self) -> None:
        """Resolution 20."""
        desk = Desk()
        desk.node("a")
        job = desk.submit(reason=SLICE, turn_id="turn")
        actions = desk.answer(job.attempts[0], "heard")
        assert only(Partial, actions) == [Partial(job, "hello", True)]
        assert told(actions) == []
        assert desk.used("a") == 0
        closing = desk.submit(1, turn_id="turn")
        assert told(desk.answer(closing.attempts[0])) == ["0:merged", "1:hola"]

    def test_partial_turn_is_shown_once(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit(reason=SLICE, turn_id="turn")
        desk.answer(job.attempts[0], "heard")
        assert kinds(desk.answer(job.attempts[0], "heard")) == ["dropped duplicate"]

    def test_partial_turn_without_an_end_is_merged_when_the_next_turn_begins(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit(reason=SLICE, turn_id="turn")
        desk.answer(job.attempts[0], "heard")
        assert told(desk.submitted(1)[1]) == ["0:merged"]

    def test_turn_that_was_heard_in_part_moves_whole(self) -> None:
        desk = Desk()
        desk.node("a")
        first = desk.submit(0, reason=SLICE, turn_id="turn")
        desk.answer(first.attempts[0], "heard")
        closing = desk.submit(1, turn_id="turn")
        desk.node("b")
        moved = sent(desk.lose("a"))
        assert [(message.job_id, message.session_id) for message in moved] == [
            ("job-1~r2", "s-1~r2"),
            ("job-2~r2", "s-1~r2"),
        ]
        assert told(desk.answer(closing.attempts[1])) == ["0:merged", "1:hola"]

    @pytest.mark.parametrize("failing", [0, 1])
    def test_turn_moves_whole_when_one_of_it_fails(self, failing: int) -> None:
        desk = Desk()
        desk.node("a")
        jobs = [desk.submit(0, reason=SLICE, turn_id="turn"), desk.submit(1, turn_id="turn")]
        desk.node("b")
        actions = desk.answer(jobs[failing].attempts[0], "failed")
        assert [(message.job_id, message.session_id) for message in sent(actions)] == [
            ("job-1~r2", "s-1~r2"),
            ("job-2~r2", "s-1~r2"),
        ]
        assert [action.message.job_id for action in only(Cancel, actions)] == [jobs[1 - failing].id]
        assert (desk.used("a"), desk.used("b")) == (0, 2)

    @pytest.mark.parametrize("kind", ["complete", "no_text"])
    def test_no_late_answer_stands_for_slices_that_were_sent_elsewhere(self, kind: str) -> None:
        """Resolution 10: it may lack them, and then their sound would be lost without a word."""
        desk = Desk()
        desk.node("a")
        slice_ = desk.submit(0, reason=SLICE, turn_id="turn")
        closing = desk.submit(1, turn_id="turn")
        desk.node("b")
        desk.lose("a")
        assert kinds(desk.answer(closing.attempts[0], kind)) == ["dropped stale_attempt"]
        assert slice_.status is JobStatus.ASSIGNED
        assert told(desk.answer(closing.attempts[1])) == ["0:merged", "1:hola"]

    def test_no_late_answer_stands_for_slices_that_wait_for_another_node(self) -> None:
        desk = Desk()
        desk.node("a")
        desk.submit(0, reason=SLICE, turn_id="turn")
        closing = desk.submit(1, turn_id="turn")
        desk.lose("a")
        desk.node("a", "en", "fr")
        assert kinds(desk.answer(closing.attempts[0])) == ["dropped stale_attempt"]
        desk.node("b")
        assert told(desk.answer(closing.attempts[1])) == ["0:merged", "1:hola"]

    @pytest.mark.parametrize("kind", ["complete", "empty", "no_text"])
    def test_slices_that_lie_elsewhere_when_their_turn_ends_go_on_alone(self, kind: str) -> None:
        desk = Desk()
        desk.node("a")
        slice_ = desk.submit(0, reason=SLICE, turn_id="turn")
        desk.beat("a", installed_services=[])
        desk.node("b")
        closing = desk.submit(1, turn_id="turn")
        assert closing.attempts[0].node_id == "b"
        actions = desk.answer(closing.attempts[0], kind)
        assert "0:merged" not in told(actions)
        (again,) = [one for one in sent(actions) if one.utterance_index == 0]
        assert (slice_.attempts[1].node_id, again.is_manual_cut) == ("b", True)
        assert told(desk.answer(slice_.attempts[1])) == ["0:hola"]
        assert (desk.used("a"), desk.used("b")) == (0, 0)

    def test_a_slice_that_waits_when_its_turn_fails_goes_on_alone(self) -> None:
        desk = Desk()
        slice_ = desk.submit(0, reason=SLICE, turn_id="turn")
        desk.submit(1, turn_id="turn", answer_by=desk.now + 2.0)
        assert told(desk.wait(2.0)) == ["1:no_available_node"]
        desk.node("a")
        assert told(desk.answer(slice_.attempts[0])) == ["0:hola"]

    @pytest.mark.parametrize("kind", ["complete", "heard", "empty", "no_text", "failed"])
    def test_after_completion_everything_is_a_duplicate(self, kind: str) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        desk.answer(job.attempts[0])
        assert kinds(desk.answer(job.attempts[0], kind)) == ["dropped duplicate"]

    @pytest.mark.parametrize("ending", ["empty", "no_text"])
    def test_complete_after_empty(self, ending: str) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        desk.answer(job.attempts[0], ending)
        desk.now += 30.0
        assert kinds(desk.answer(job.attempts[0])) == ["deliver 0:hola"]
        assert job.status is JobStatus.COMPLETED
        assert kinds(desk.answer(job.attempts[0])) == ["dropped duplicate"]

    def test_complete_long_after_empty(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        desk.answer(job.attempts[0], "empty")
        desk.now += 30.1
        assert kinds(desk.answer(job.attempts[0])) == ["dropped duplicate"]

    def test_complete_after_failure(self) -> None:
        desk = Desk(failover_max_attempts=0)
        desk.node("a")
        job = desk.submit()
        assert told(desk.wait(61.0)) == ["0:job_timeout"]
        assert told(desk.answer(job.attempts[0])) == ["0:hola"]

    @pytest.mark.parametrize("kind", ["empty", "failed", "no_text"])
    def test_nothing_after_nothing(self, kind: str) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        desk.answer(job.attempts[0], "empty")
        assert kinds(desk.answer(job.attempts[0], kind)) == ["dropped duplicate"]

    def test_never_after_the_session_ended(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        desk.answer(job.attempts[0], "empty")
        desk.dispatch.session_ended("s-1", desk.now)
        assert kinds(desk.answer(job.attempts[0])) == ["dropped duplicate"]

    def test_finished_jobs_are_remembered_for_a_while(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        desk.answer(job.attempts[0])
        desk.wait(300.0)
        assert kinds(desk.answer(job.attempts[0])) == ["dropped duplicate"]
        desk.wait(0.1)
        assert kinds(desk.answer(job.attempts[0])) == ["dropped unknown_job"]

    def test_the_last_finished_jobs_can_be_explained_for_ever(self) -> None:
        desk = Desk(explained_jobs=2)
        desk.node("a")
        for index in range(3):
            desk.answer(desk.submit(index).attempts[0])
        desk.wait(1e6)
        assert list(desk.dispatch.jobs) == ["job-2", "job-3"]
        assert desk.dispatch.open_jobs == 0


class TestCancellation:
    """Node-protocol 6.9."""

    def test_a_session_that_ended(self) -> None:
        desk = Desk()
        desk.node("a", cap=2)
        for index in range(3):
            desk.submit(index)
        assert kinds(desk.dispatch.session_ended("s-1", desk.now)) == [
            "cancelled on a",
            "cancel job-1 on a: session_closed",
            "AudioReleased",
            "cancelled on a",
            "cancel job-2 on a: session_closed",
            "AudioReleased",
            "AudioReleased",
        ]
        assert desk.used("a") == 0
        assert desk.dispatch.open_jobs == 0
        assert desk.dispatch.due() is None
        assert desk.dispatch.session_ended("s-1", desk.now) == []

    def test_its_late_answers_are_dropped(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        desk.dispatch.session_ended("s-1", desk.now)
        assert job.status is JobStatus.CANCELLED
        assert kinds(desk.answer(job.attempts[0])) == ["dropped duplicate"]

    def test_other_sessions_are_not_touched(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit(0, "s-2")
        desk.submit(0, "s-1")
        desk.dispatch.session_ended("s-1", desk.now)
        assert job.status is JobStatus.ASSIGNED

    def test_a_lost_attempt_is_not_cancelled_again(self) -> None:
        desk = Desk()
        desk.node("a")
        desk.submit()
        desk.lose("a")
        assert only(Cancel, desk.dispatch.session_ended("s-1", desk.now)) == []


class TestLostNode:
    """Node-protocol 6.10."""

    def test_an_old_connection_changes_nothing(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        before = desk.connections["a"]
        desk.node("a")
        assert desk.dispatch.connection_lost("a", before, desk.now) == []
        assert job.status is JobStatus.ASSIGNED
        assert told(desk.answer(job.attempts[0])) == ["0:hola"]

    def test_each_job_exactly_once_in_order(self) -> None:
        desk = Desk()
        desk.node("a")
        jobs = [desk.submit(index, session) for session in ("s-2", "s-1") for index in (0, 1)]
        desk.node("b")
        actions = desk.lose("a")
        assert [(m.session_id, m.utterance_index) for m in sent(actions)] == [
            ("s-1~r2", 0),
            ("s-1~r2", 1),
            ("s-2~r2", 0),
            ("s-2~r2", 1),
        ]
        assert desk.used("a") == 0
        assert len(only(AttemptEnded, actions)) == 4
        assert all(job.attempts[0].end is AttemptEnd.NODE_LOST for job in jobs)

    def test_the_slices_of_a_turn_share_their_new_wire_session(self) -> None:
        desk = Desk()
        desk.node("a", cap=4)
        desk.submit(0)
        slices = [desk.submit(index, reason=SLICE, turn_id="t") for index in (1, 2)]
        desk.answer(slices[0].attempts[0], "failed")
        assert slices[0].attempts[1].wire_session_id == "s-1~r2"
        desk.submit(3, turn_id="t")
        desk.node("b")
        actions = desk.lose("a")
        assert [(m.utterance_index, m.session_id, m.turn_id) for m in sent(actions)] == [
            (0, "s-1~r3", "turn-s-1-0"),
            (1, "s-1~r3", "t"),
            (2, "s-1~r3", "t"),
            (3, "s-1~r3", "t"),
        ]
        assert {action.attempt.node_id for action in only(Assign, actions)} == {"b"}

    def test_a_late_success_after_it_came_back(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        desk.node("b")
        desk.lose("a")
        desk.node("a")
        assert told(desk.answer(job.attempts[0])) == ["0:hola"]
        assert (desk.used("a"), desk.used("b")) == (0, 0)

    def test_the_last_node(self) -> None:
        desk = Desk()
        desk.node("a")
        for index in range(6):
            desk.submit(index)
        desk.lose("a")
        actions = desk.wait(10.0)
        assert told(actions) == [
            *[f"{index}:node_lost" for index in range(4)],
            *[f"{index}:no_available_node" for index in (4, 5)],
        ]
        assert desk.dispatch.open_jobs == 0
        assert desk.dispatch.due() is None


class TestAffinity:
    """Node-protocol 5.6, resolutions 25 and 26."""

    def fleet_of_three(self, **rules: Any) -> Desk:
        desk = Desk(**rules)
        for node_id in "abc":
            desk.node(node_id)
        return desk

    def test_a_session_keeps_its_node(self) -> None:
        desk = self.fleet_of_three()
        first = desk.submit(0).attempts[0]
        for index in range(1, 20):
            job = desk.submit(index)
            assert job.attempts[0].node_id == first.node_id
            desk.answer(job.attempts[0])

    @pytest.mark.parametrize(("idle_s", "stays"), [(0.0, True), (1.0, False)])
    def test_until_it_is_idle_for_long(self, idle_s: float, stays: bool) -> None:
        desk = self.fleet_of_three()
        nodes: dict[str, list[str]] = {}
        for index in range(2):
            for number in range(20):
                job = desk.submit(index, f"s-{number}")
                nodes.setdefault(job.request.session_id, []).append(job.attempts[0].node_id)
                desk.answer(job.attempts[0])
            desk.now += JobRules().lane_idle_s + idle_s
        assert all(first == second for first, second in nodes.values()) == stays

    def test_an_open_turn_is_bound_up_to_two_slots_over_the_cap(self) -> None:
        desk = Desk()
        desk.node("a", cap=1)
        first = desk.submit(0, reason=SLICE, turn_id="t")
        desk.node("b", cap=4)
        jobs = [desk.submit(index, reason=SLICE, turn_id="t") for index in (1, 2)]
        assert [job.attempts[0].node_id for job in (first, *jobs)] == ["a", "a", "a"]
        assert desk.used("a") == 3
        assert desk.submit(0, "s-2").attempts[0].node_id == "b"

    def test_beyond_that_its_slices_wait_and_hold_up_nobody(self) -> None:
        desk = Desk()
        desk.node("a", cap=1)
        for index in range(3):
            desk.submit(index, reason=SLICE, turn_id="t")
        desk.node("b", cap=1)
        other = desk.submit(0, "s-2")
        slice_, waiting = desk.submit(3, reason=SLICE, turn_id="t"), desk.submit(0, "s-3")
        assert not slice_.attempts
        desk.answer(other.attempts[0])
        assert waiting.attempts[0].node_id == "b"
        desk.wait(JobRules().deferred_release_s)
        assert slice_.attempts[0].node_id == "a"

    def test_a_turn_whose_node_is_lost_is_bound_to_the_next(self) -> None:
        desk = Desk()
        desk.node("a", cap=1)
        desk.submit(0, reason=SLICE, turn_id="t")
        desk.node("b", cap=4)
        desk.lose("a")
        desk.node("c", cap=40)
        assert desk.submit(1, reason=SLICE, turn_id="t").attempts[0].node_id == "b"

    def test_without_affinity_only_inside_a_turn(self) -> None:
        desk = self.fleet_of_three(affinity="turn")
        seen = {desk.submit(index).attempts[0].node_id for index in range(6)}
        assert seen == {"a", "b", "c"}
        turn = {desk.submit(index, reason=SLICE, turn_id="t").attempts[0].node_id for index in range(6, 9)}
        assert len(turn) == 1


class TestKeptBackSlices:
    def test_a_slot_goes_back_after_a_while_though_the_attempt_is_open(self) -> None:
        desk = Desk()
        desk.node("a", cap=1)
        held = desk.submit(0, reason=CutReason.MAX_DURATION, turn_id="turn", seconds=10.0)
        waiting = desk.submit(0, "s-2")
        assert desk.wait(2.9) == []
        assert [message.job_id for message in sent(desk.wait(0.2))] == [waiting.id]
        assert held.open_attempts
        assert desk.used("a") == 1
        desk.answer(held.attempts[0], "heard")
        assert desk.used("a") == 1, "given back once"
        desk.answer(waiting.attempts[0])
        assert desk.used("a") == 0

    def test_an_answer_before_that_gives_it_back_at_once(self) -> None:
        desk = Desk()
        desk.node("a", cap=1)
        held = desk.submit(0, reason=CutReason.MAX_DURATION, seconds=10.0)
        desk.answer(held.attempts[0], "heard")
        assert desk.used("a") == 0
        assert desk.wait(10.0) == []


class TestMemory:
    def test_what_was_said_is_not_kept(self) -> None:
        desk = Desk()
        desk.node("a")
        job = desk.submit()
        (delivered,) = only(Deliver, desk.answer(job.attempts[0], tts_audio="A" * 1000))
        assert delivered.outcome.result is not None
        assert job.outcome is not None
        assert job.outcome.result is None


class TestLanes:
    def test_going_back_again_and_again_costs_no_memory(self) -> None:
        desk = Desk()
        desk.node("a", cap=60)
        jobs = [desk.submit(index) for index in range(50, 0, -1)]
        names = [job.attempts[0].wire_session_id for job in jobs]
        assert len(set(names)) == 50, "each lower index is a fresh context for the node"
        lane = desk.dispatch._sessions["s-1"].lanes["s-1"]
        assert len(lane.highest) <= MAX_NUMBERS

    def test_later_slices_of_a_turn_that_was_sent_again_stay_in_its_context(self) -> None:
        desk = Desk()
        desk.node("a")
        slices = {"reason": CutReason.MAX_DURATION, "turn_id": "turn"}
        first = desk.submit(0, **slices)
        desk.node("b")
        desk.lose("a")
        second = desk.submit(1, **slices)
        assert first.attempts[-1].wire_session_id == "s-1~r2"
        assert second.attempts[-1].wire_session_id == "s-1~r2"
