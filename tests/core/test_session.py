"""A session's numbers, order and words (session-protocol 3-5), without sockets."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from core.support import answer, plan_a
from core.talk import EPOCH_S, EVERY_PIECE, Talk, b64, missing, submitted, words
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from linguad.core.arrivals import MAX_HELD_UTTERANCES
from linguad.core.intake import MAX_CUT_RUNS
from linguad.core.job import MissingReason, Outcome
from linguad.core.outputs import Delivered, Output, Send, Submit
from linguad.core.rules import SessionRules
from linguad.core.utterance import CutReason
from linguad.errors import ErrorCode
from linguad.wire import session as wire
from linguad.wire.common import FeatureFlags, PipelineConfig
from linguad.wire.node import JobResult
from linguad.wire.room import RoomCreate


class TestStreamedSpeech:
    def test_indexes_count_from_zero_and_empty_finals_use_none(self) -> None:
        talk = Talk()
        assert submitted(talk.chunk(plan_a(5), final=True)) == [0]
        assert submitted(talk.chunk(final=True)) == []
        assert submitted(talk.chunk(plan_a(5), final=True)) == [1]

    def test_the_request(self) -> None:
        flags = FeatureFlags(emotion_detection=True)
        talk = Talk(
            src_lang="auto",
            mode="two_way_auto",
            lang_a="en",
            lang_b="es",
            auto_langs=["en", "es"],
            dialect="x",
            features=flags,
            tenant_id="acme",
            enable_streaming_asr=False,
            partial_update_interval_ms=300,
        )
        talk.chunk(plan_a(5), client_timestamp_ms=5)
        talk.now = 1.0
        talk.chunk(plan_a(5), final=True, client_timestamp_ms=1005)
        request = talk.jobs[0].request
        assert (request.session_id, request.lane, request.trace_id) == ("s-1", "s-1", "t-1")
        assert request.tenant == "direct", "what a client calls itself is only a label"
        assert (request.src_lang, request.tgt_lang, request.mode, request.dialect) == (
            "auto",
            "es",
            "two_way_auto",
            "x",
        )
        assert (request.lang_a, request.lang_b, request.auto_langs) == ("en", "es", ["en", "es"])
        assert (request.features, request.pipeline) == (flags, PipelineConfig())
        assert (request.enable_streaming_asr, request.partial_update_interval_ms) == (False, 300)
        assert (request.reason, request.padding_ms, request.last_client_ms) == (CutReason.MANUAL, 280, 1005)
        assert (request.last_audio_at, request.cut_at) == (1.0, 1.0)

    def test_silence_is_cut_by_the_clock(self) -> None:
        talk = Talk()
        talk.chunk(plan_a(5))
        assert submitted(talk.wait(2.9)) == []
        assert submitted(talk.wait(0.2)) == [0]
        assert talk.jobs[0].request.reason is CutReason.TIMEOUT

    def test_a_final_before_its_tail(self) -> None:
        talk = Talk()
        talk.chunk(plan_a(5))
        talk.chunk(final=True)
        talk.now += 0.005
        assert submitted(talk.chunk(plan_a(2, 5))) == [0]
        audio = talk.jobs[0].audio
        assert audio is not None
        assert base64.b64decode(audio.base64) == plan_a(7)

    def test_ten_minutes_of_silence_then_speech(self) -> None:
        talk = Talk()
        talk.chunk(plan_a(5), final=True)
        talk.wait(600.0)
        assert submitted(talk.chunk(plan_a(5), final=True)) == [1]

    def test_thirty_five_seconds_without_a_breath(self) -> None:
        talk = Talk()
        for number in range(137):
            talk.now = number * 0.256
            talk.chunk(plan_a(13, 13 * number))
        talk.chunk(final=True)
        talk.wait(1.0)
        requests = [job.request for job in talk.jobs.values()]
        assert [request.reason.value for request in requests] == ["max_duration"] * 3 + ["manual"]
        assert len({request.turn_id for request in requests}) == 1
        whole = b"".join(base64.b64decode(job.audio.base64) for job in talk.jobs.values() if job.audio)
        assert whole == plan_a(13 * 137)

    @pytest.mark.parametrize("payload", ["%%%", "AAA", "ä"])
    def test_payload_that_is_not_base64(self, payload: str) -> None:
        talk = Talk()
        talk.chunk(plan_a(5))
        outputs = talk.say(wire.AudioChunk(session_id="s-1", seq=9, is_final=True, payload=payload))
        assert words(outputs) == ["error INVALID_MESSAGE"]
        assert submitted(talk.wait(1.0)) == [0], "the final counts all the same"


class TestOtherLanguages:
    """A short word is held for what follows; it is in the language that held when it was said."""

    @staticmethod
    def update(talk: Talk) -> list[Output]:
        return talk.say(wire.SessionUpdate(session_id="s-1", src_lang="fr", tgt_lang="de"))

    @staticmethod
    def wanted(talk: Talk, index: int) -> tuple[str, str]:
        request = talk.jobs[index].request
        return request.src_lang, request.tgt_lang

    def test_a_short_word_goes_before_the_change(self) -> None:
        talk = Talk(SessionRules())
        talk.chunk(plan_a(13, size=40), final=True)
        assert submitted(self.update(talk)) == [0]
        talk.chunk(plan_a(30, size=40), final=True)
        assert [self.wanted(talk, 0), self.wanted(talk, 1)] == [("en", "es"), ("fr", "de")]

    def test_a_short_word_during_which_it_came(self) -> None:
        talk = Talk(SessionRules())
        talk.chunk(plan_a(5, size=40))
        assert submitted(self.update(talk)) == []
        talk.chunk(plan_a(8, size=40), final=True)
        talk.wait(1.0)
        assert self.wanted(talk, 0) == ("en", "es")

    def test_silence_that_is_held_is_no_utterance(self) -> None:
        talk = Talk(SessionRules())
        talk.chunk(plan_a(13), final=True)
        assert submitted(self.update(talk)) == []


class TestTurnsInRooms:
    """Slices of a turn that are out need a last one, or their node keeps them back for ever."""

    def test_a_turn_in_slices_ends_when_its_speaker_goes_elsewhere(self) -> None:
        talk = Talk(SessionRules())
        talk.chunk(plan_a(510))
        assert submitted(talk.say(RoomCreate(client_ts=0))) == [1]
        sliced, last = talk.jobs[0].request, talk.jobs[1].request
        assert (sliced.reason, last.reason) == (CutReason.MAX_DURATION, CutReason.CLOSE)
        assert sliced.turn_id == last.turn_id
        talk.chunk(plan_a(30), final=True)
        assert talk.jobs[2].request.turn_id != last.turn_id
        assert talk.jobs[2].request.room_id

    def test_a_sentence_in_one_piece_is_not_cut_by_that(self) -> None:
        talk = Talk(SessionRules())
        talk.chunk(plan_a(30))
        assert submitted(talk.say(RoomCreate(client_ts=0))) == []


class TestUtteranceMessages:
    def test_the_request(self) -> None:
        talk = Talk(features=FeatureFlags(), mode="one_way", enable_streaming_asr=True)
        pipeline = PipelineConfig(use_tts=False)
        audio = b64(bytes(3200))
        talk.utterance(
            7,
            "fr",
            src_lang="de",
            audio=audio,
            audio_format="pcm16",
            sample_rate=8000,
            pipeline=pipeline,
            trace_id="t-7",
        )
        request, sound = talk.jobs[7].request, talk.jobs[7].audio
        assert (request.src_lang, request.tgt_lang, request.trace_id) == ("de", "fr", "t-7")
        assert (request.pipeline, request.mode, request.features) == (pipeline, "one_way", FeatureFlags())
        assert (request.reason, request.padding_ms) == (CutReason.MANUAL, None)
        assert sound is not None
        assert (sound.base64, sound.format, sound.sample_rate, sound.duration_ms) == (
            audio,
            "pcm16",
            8000,
            200,
        )

    @pytest.mark.parametrize(
        ("message", "session", "used"),
        [
            (None, None, True),
            (None, False, False),
            (None, True, True),
            (False, None, False),
            (False, True, False),
            (True, False, True),
        ],
    )
    def test_the_message_wins_over_the_session(
        self, message: bool | None, session: bool | None, used: bool
    ) -> None:
        talk = Talk(enable_streaming_asr=session)
        talk.utterance(0, enable_streaming_asr=message)
        assert talk.jobs[0].request.enable_streaming_asr is used

    def test_in_order_of_index(self) -> None:
        talk = Talk()
        assert submitted(talk.utterance(0)) == [0]
        assert submitted(talk.utterance(2)) == []
        assert submitted(talk.utterance(1)) == [1, 2]

    def test_the_first_may_be_any_number(self) -> None:
        assert submitted(Talk().utterance(17)) == [17]

    def test_a_lower_one_that_never_comes(self) -> None:
        talk = Talk()
        talk.utterance(0)
        talk.utterance(3)
        talk.now += 0.2
        talk.utterance(2)
        assert submitted(talk.wait(0.09)) == []
        assert submitted(talk.wait(0.02)) == [2, 3]
        assert submitted(talk.utterance(1)) == [1], "too late for its place, yet not lost"

    def test_one_wait_does_not_end_another_that_has_a_gap_of_its_own(self) -> None:
        talk = Talk()
        talk.utterance(0)
        talk.utterance(2)
        talk.now += 0.2
        talk.utterance(4)
        assert submitted(talk.wait(0.15)) == [2]
        assert submitted(talk.wait(0.15)) == [4]

    def test_a_repeated_one_that_waits_stays_in_its_place(self) -> None:
        talk = Talk()
        talk.utterance(0)
        talk.utterance(2)
        assert submitted(talk.utterance(2)) == []
        assert submitted(talk.utterance(1)) == [1, 2]
        assert submitted(talk.wait(1.0)) == []

    def test_two_languages_of_one_index_wait_together(self) -> None:
        talk = Talk()
        talk.utterance(0)
        talk.utterance(2, "es")
        talk.utterance(2, "fr")
        assert submitted(talk.utterance(1)) == [1, 2, 2]

    def test_so_many_may_wait(self) -> None:
        talk = Talk(SessionRules(cut=EVERY_PIECE, max_open=100))
        talk.utterance(0)
        for index in range(2, 2 + MAX_HELD_UTTERANCES):
            assert submitted(talk.utterance(index)) == []
        assert submitted(talk.utterance(1000)) == list(range(2, 2 + MAX_HELD_UTTERANCES))
        assert submitted(talk.wait(0.3)) == [1000]

    def test_repeats_make_no_second_job(self) -> None:
        talk = Talk()
        talk.utterance(0)
        assert talk.utterance(0) == []
        assert submitted(talk.utterance(0, "fr")) == [0]
        talk.resolve(0)
        talk.now += 299.0
        assert talk.utterance(0) == []
        talk.now += 2.0
        assert submitted(talk.utterance(0)) == [0]

    def test_a_failed_one_may_be_sent_again(self) -> None:
        talk = Talk()
        talk.utterance(0)
        talk.resolve(0, missing(MissingReason.JOB_TIMEOUT, ErrorCode.JOB_TIMEOUT))
        assert submitted(talk.utterance(0)) == [0]
        assert words(talk.resolve(0)) == ["0:hola"]

    def test_one_that_failed_and_has_its_text_after_all_is_known_again(self) -> None:
        talk = Talk()
        talk.utterance(0)
        talk.resolve(0, missing(MissingReason.NODE_LOST, ErrorCode.NODE_UNAVAILABLE))
        assert words(talk.resolve(0)) == ["0:hola late"]
        assert submitted(talk.utterance(0)) == []

    @pytest.mark.parametrize(
        "members", [{"audio_format": "wav"}, {"audio": "%%%"}, {"audio": "AAA"}, {"audio_format": ""}]
    )
    def test_audio_that_cannot_be_used(self, members: dict[str, Any]) -> None:
        talk = Talk()
        assert words(talk.utterance(0, **members)) == ["error INVALID_MESSAGE", "0:job_failed"]
        assert submitted(talk.utterance(1)) == [1], "nobody waits for it"

    @pytest.mark.parametrize(
        "members",
        [{"audio": ""}, {"audio": b64(b"\x00\x00junk")}, {"audio": b64(b"\x01"), "audio_format": "pcm16"}],
    )
    def test_without_sound(self, members: dict[str, Any]) -> None:
        talk = Talk()
        assert words(talk.utterance(0, **members)) == ["0:silence_detected"]
        assert talk.jobs == {}

    def test_what_cannot_be_used_is_told_in_its_place_and_may_come_again(self) -> None:
        talk = Talk()
        talk.utterance(0)
        assert words(talk.utterance(1, audio="%%%")) == ["error INVALID_MESSAGE"]
        assert words(talk.resolve(0)) == ["0:hola", "1:job_failed"]
        assert submitted(talk.utterance(1)) == [1]

    @pytest.mark.parametrize(
        "members",
        [
            {"audio": b64(plan_a(101))},
            {"audio": b64(bytes(64_040)), "audio_format": "pcm16"},
            {"tgt": "x" * 65},
        ],
    )
    def test_too_much_of_it(self, members: dict[str, Any]) -> None:
        talk = Talk(SessionRules(cut=replace(EVERY_PIECE, max_chunk_s=2.0)))
        assert words(talk.utterance(0, **members)) == ["error INVALID_MESSAGE", "0:job_failed"]

    def test_index_that_streamed_speech_has_used(self) -> None:
        talk = Talk()
        talk.chunk(plan_a(5), final=True)
        talk.chunk(plan_a(5), final=True)
        (output,) = talk.utterance(0)
        assert isinstance(output, Send)
        assert isinstance(output.message, wire.ErrorMessage)
        assert "member utterance_index" in output.message.message
        assert words(talk.utterance(1)) == ["error INVALID_MESSAGE"]
        assert words(talk.resolve(0)) == ["0:hola"], "the speech still owns it"
        assert submitted(talk.utterance(2)) == [2]

    def test_index_between_cuts_that_nobody_used(self) -> None:
        talk = Talk()
        talk.utterance(0)
        talk.utterance(2)
        talk.wait(0.3)
        talk.chunk(plan_a(5), final=True)
        assert submitted(talk.utterance(1)) == [1]
        assert words(talk.utterance(3)) == ["error INVALID_MESSAGE"]

    def test_many_turns_of_cuts_and_utterances(self) -> None:
        talk = Talk(SessionRules(cut=EVERY_PIECE, max_open=1000))
        for index in range(0, 400, 2):
            assert submitted(talk.utterance(index)) == [index]
            talk.chunk(plan_a(5), final=True)
        assert len(talk.session._intake._cut_runs) == MAX_CUT_RUNS
        assert words(talk.utterance(1)) == words(talk.utterance(399)) == ["error INVALID_MESSAGE"]

    def test_without_sound_twice_is_answered_once(self) -> None:
        talk = Talk()
        assert words(talk.utterance(0, audio="")) == ["0:silence_detected"]
        assert talk.utterance(0, audio="") == []

    def test_without_sound_it_leaves_in_its_place_too(self) -> None:
        talk = Talk()
        talk.utterance(0)
        assert words(talk.utterance(1, audio="", trace_id="t-9")) == []
        outputs = talk.resolve(0)
        assert words(outputs) == ["0:hola", "1:silence_detected"]
        assert isinstance(outputs[-1], Send)
        assert isinstance(outputs[-1].message, wire.MissingResult)
        assert outputs[-1].message.trace_id == "t-9"

    def test_streamed_speech_goes_on_behind_them(self) -> None:
        talk = Talk()
        talk.utterance(4)
        talk.utterance(5, audio="")
        assert submitted(talk.chunk(plan_a(5), final=True)) == [6]


arrivals = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from(["es", "fr"]), st.sampled_from([0.0, 0.1, 0.4])),
    max_size=25,
)


@given(arrivals)
def test_every_utterance_is_taken_once_and_waits_no_longer_than_it_may(
    arrived: list[tuple[int, str, float]],
) -> None:
    talk = Talk()
    came: dict[tuple[int, str], float] = {}
    for index, tgt, gap in arrived:
        outputs = talk.wait(gap)
        came.setdefault((index, tgt), talk.now)
        outputs += talk.utterance(index, tgt)
        for output in outputs:
            assert isinstance(output, Submit)
            request = output.request
            first = came.pop((request.utterance_index, request.tgt_lang))
            assert first != float("inf"), "once"
            assert request.cut_at <= first + 0.3 + 1e-9
            came[request.utterance_index, request.tgt_lang] = float("inf")
    rest = [(output.request.utterance_index, output.request.tgt_lang) for output in talk.wait(1.0)]
    assert rest == sorted(rest, key=lambda key: key[0])
    assert set(rest) == {key for key, at in came.items() if at != float("inf")}
    assert len(set(rest)) == len(rest)


class TestOrder:
    def three(self) -> Talk:
        talk = Talk()
        for _ in range(3):
            talk.chunk(plan_a(5), final=True)
        return talk

    def test_two_zero_one(self) -> None:
        talk = self.three()
        assert words(talk.resolve(2)) == []
        assert words(talk.resolve(0)) == ["0:hola"]
        assert words(talk.resolve(1)) == ["1:hola", "2:hola"]
        assert talk.session._answers._orders == {}

    def test_a_lost_one(self) -> None:
        talk = self.three()
        talk.resolve(0)
        talk.resolve(2)
        assert words(talk.wait(2.9)) == []
        assert words(talk.wait(0.2)) == ["1:gap_timeout", "2:hola"]
        assert words(talk.resolve(1)) == ["1:hola late"]

    def test_what_is_missing_is_told_once(self) -> None:
        talk = self.three()
        talk.resolve(2)
        talk.resolve(0)
        talk.wait(3.1)
        failed = missing(MissingReason.JOB_TIMEOUT, ErrorCode.JOB_TIMEOUT)
        assert words(talk.resolve(1, failed)) == ["1:ERROR"]

    def test_text_after_all(self) -> None:
        talk = self.three()
        assert words(talk.resolve(0, missing(MissingReason.SILENCE))) == ["0:silence_detected"]
        assert words(talk.resolve(0)) == ["0:hola late"]

    def test_text_after_all_while_it_waits_for_its_turn(self) -> None:
        talk = self.three()
        talk.resolve(1, missing(MissingReason.SILENCE))
        assert words(talk.resolve(1)) == []
        assert words(talk.resolve(0)) == ["0:hola", "1:hola"]

    def test_languages_do_not_wait_for_each_other(self) -> None:
        talk = Talk()
        talk.utterance(0, "fr")
        talk.utterance(1, "es")
        assert words(talk.resolve(1)) == ["1:hola"]

    @pytest.mark.parametrize("reason", MissingReason)
    def test_reasons(self, reason: MissingReason) -> None:
        assert words(self.three().resolve(0, missing(reason))) == [f"0:{reason}"]


class TestWords:
    def test_the_result(self) -> None:
        talk = Talk()
        talk.chunk(plan_a(5), client_timestamp_ms=int(EPOCH_S * 1000) - 40)
        talk.now = 0.04
        talk.chunk(final=True)
        talk.wait(0.06)
        talk.now = 1.1
        job = talk.jobs[0]
        result = answer(job.attempts[0], tts_format=None, processing_time_ms=700.4, quality_score=0.5)
        talk.now = 1.2
        left, output = talk.resolve(0, Outcome(result=result, attempt=job.attempts[0], received_at=1.1))
        assert isinstance(output, Send)
        message = output.message
        assert isinstance(message, wire.TranslationResult)
        assert (message.session_id, message.utterance_index, message.job_id) == ("s-1", 0, "job-1")
        assert (message.text_asr, message.text_translated, message.tts_audio) == ("hello", "hola", "AAA=")
        assert (message.tts_format, message.trace_id, message.quality_score) == ("pcm16", "t-1", 0.5)
        assert (message.processing_time_ms, message.late) == (700, False)
        assert message.service_timings is not None
        assert message.service_timings.total_ms == 700
        assert message.scheduler_sent_at_ms == int((EPOCH_S + 1.2) * 1000)
        assert message.network_timings is not None
        assert message.network_timings.web_to_scheduler_ms == 120
        breakdown = message.time_breakdown
        assert breakdown is not None
        parts = [
            breakdown.cut_ms,
            breakdown.queue_ms,
            breakdown.send_ms,
            breakdown.node_ms,
            breakdown.reorder_ms,
        ]
        assert parts == pytest.approx([80, 10, 309.6, 700.4, 100])
        assert breakdown.total_ms == pytest.approx(sum(parts))
        assert breakdown.attempts == 1
        assert left == Delivered(job, breakdown, message.service_timings)
        assert (job.delivered_at, job.late, job.node_s) == (1.2, False, pytest.approx(0.7004))

    @pytest.mark.parametrize(("locale", "language"), [(None, "en"), ("en", "en"), ("zh", "zh"), ("fr", "en")])
    def test_failure_in_both_languages(self, locale: str | None, language: str) -> None:
        talk = Talk(locale=locale)
        talk.chunk(plan_a(5), final=True)
        talk.now = 10.0
        outcome = Outcome(
            missing=MissingReason.NO_NODE, error=ErrorCode.NO_AVAILABLE_NODE, details={"src": "en"}
        )
        event, told = talk.resolve(0, outcome)
        assert isinstance(event, Send)
        message = event.message
        assert isinstance(message, wire.UiEvent)
        assert (message.event, message.status, message.error_code) == ("ERROR", "error", "NO_AVAILABLE_NODE")
        assert (message.hint_en, message.hint_zh) == ErrorCode.NO_AVAILABLE_NODE.hint
        assert message.hint == (message.hint_zh if language == "zh" else message.hint_en)
        assert (message.elapsed_ms, message.details) == (10_000, {"src": "en"})
        assert words([told]) == ["0:no_available_node"]

    def test_partial_and_progress_may_be_dropped_for_a_slow_reader(self) -> None:
        talk = Talk()
        talk.chunk(plan_a(5), final=True)
        job = talk.jobs[0]
        outputs = talk.session.partial(job, "hel", False, 1.0) + talk.session.progress(job, "NMT_DONE", 1.0)
        assert words(outputs) == ["AsrPartial", "0:ASR_PARTIAL", "0:NMT_DONE"]
        assert all(isinstance(output, Send) and output.optional for output in outputs)
        assert not any(isinstance(output, Send) and output.optional for output in talk.resolve(0))

    def test_absurd_numbers_of_a_node_are_no_error(self) -> None:
        talk = Talk()
        talk.chunk(plan_a(5), final=True)
        result = JobResult(
            job_id="j", node_id="n", success=True, text_asr="x", processing_time_ms=1e308, rerun_count=10**30
        )
        _, output = talk.resolve(0, Outcome(result=result, received_at=1.0))
        assert isinstance(output, Send)


class TestLimits:
    def full(self) -> Talk:
        talk = Talk(SessionRules(cut=EVERY_PIECE, max_open=2))
        for _ in range(2):
            talk.chunk(plan_a(5), final=True)
        return talk

    def test_so_many_may_be_open(self) -> None:
        talk = self.full()
        outputs = talk.chunk(plan_a(5), final=True)
        assert words(outputs) == ["2:INPUT_STARTED", "2:INPUT_ENDED", "2:ERROR", "2:node_overloaded"]
        *_, event, told = outputs
        assert isinstance(event, Send)
        assert isinstance(event.message, wire.UiEvent)
        assert (event.message.error_code, event.message.job_id) == ("NODE_OVERLOADED", "")
        assert isinstance(told, Send)
        assert (event.optional, told.optional) == (True, False)

    def test_what_was_refused_is_waited_for_by_nobody(self) -> None:
        talk = self.full()
        talk.chunk(plan_a(5), final=True)
        assert words(talk.resolve(0)) == ["0:hola"]
        assert submitted(talk.chunk(plan_a(5), final=True)) == [3]
        assert words(talk.resolve(1)) == ["1:hola"]
        assert words(talk.resolve(3)) == ["3:hola"]

    def test_refused_utterance_may_be_sent_again(self) -> None:
        talk = self.full()
        assert words(talk.utterance(2)) == ["2:ERROR", "2:node_overloaded"]
        talk.resolve(0)
        assert submitted(talk.utterance(2)) == [2]

    def test_one_chunk_that_is_too_long(self) -> None:
        talk = Talk(SessionRules(cut=replace(EVERY_PIECE, max_chunk_s=1.0)))
        heard = words(talk.chunk(plan_a(51), final=True))
        assert heard == ["0:INPUT_STARTED", "0:INPUT_ENDED", "error INVALID_MESSAGE"]
        (job,) = talk.jobs.values()
        assert job.audio is not None
        assert job.audio.seconds == 1.0

    def test_failure_may_be_dropped_where_its_index_is_told_anyway(self) -> None:
        talk = self.full()
        talk.resolve(1)
        failed = missing(MissingReason.JOB_TIMEOUT, ErrorCode.JOB_TIMEOUT)
        event, *_ = talk.resolve(0, failed)
        assert isinstance(event, Send)
        assert event.optional
        talk = self.full()
        talk.resolve(1)
        talk.wait(3.1)
        (event,) = talk.resolve(0, failed)
        assert isinstance(event, Send)
        assert not event.optional, "nothing else tells what became of it"

    def test_audio_that_no_job_has_yet(self) -> None:
        talk = Talk()
        talk.chunk(plan_a(5))
        cutting = talk.session.buffered_bytes
        assert cutting == len(plan_a(5))
        talk.utterance(0)
        talk.utterance(2)
        assert talk.session.buffered_bytes == cutting + len(b64(plan_a(5)))
        talk.wait(5.0)
        assert talk.session.buffered_bytes == 0


class TestEnds:
    def test_heartbeat(self) -> None:
        talk = Talk()
        talk.now = 5.0
        (output,) = talk.say(wire.ClientHeartbeat(session_id="s-1", timestamp=1))
        assert output == Send(wire.ServerHeartbeat(session_id="s-1", timestamp=int((EPOCH_S + 5) * 1000)))

    def test_foreign_session(self) -> None:
        talk = Talk()
        assert words(talk.say(wire.ClientHeartbeat(session_id="s-2", timestamp=1))) == [
            "error INVALID_SESSION"
        ]

    def test_close_sends_what_is_finished_and_drops_the_rest(self) -> None:
        talk = Talk()
        for _ in range(3):
            talk.chunk(plan_a(5), final=True)
        talk.resolve(2)
        talk.chunk(plan_a(5))
        outputs = talk.say(wire.SessionClose(session_id="s-1", reason="bye"))
        assert words(outputs) == ["2:hola", "SessionCloseAck", "ended"]
        assert submitted(outputs) == []

    def test_a_lost_socket_cuts_and_ends_after_the_grace(self) -> None:
        talk = Talk()
        talk.chunk(plan_a(5))
        assert submitted(talk.see(talk.session.detach(talk.now))) == [0]
        assert talk.jobs[0].request.reason is CutReason.CLOSE
        assert words(talk.wait(29.9)) == []
        assert words(talk.wait(0.2)) == ["ended"]

    def test_the_gateway_has_a_longer_grace(self) -> None:
        talk = Talk(platform="api-gateway")
        talk.session.detach(talk.now)
        assert words(talk.wait(599.0)) == []
        assert words(talk.wait(2.0)) == ["ended"]

    def test_due_is_the_earliest_of_all(self) -> None:
        talk = Talk()
        assert talk.session.due() is None
        talk.utterance(0)
        talk.utterance(2)
        assert talk.session.due() == pytest.approx(0.3)
        talk.chunk(plan_a(5))
        talk.chunk(final=True)
        assert talk.session.due() == pytest.approx(0.04)
