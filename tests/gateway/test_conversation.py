"""`/v1/stream` without a socket: what a caller hears, and what the core is asked for (gateway 6, 8)."""

from __future__ import annotations

from typing import Any

import pytest
from script import KEY, RULES, Json, Stage, base64, event, missing, partial, pcm, result

from linguad.errors import CloseReason
from linguad.gateway.stream.rules import StreamRules
from linguad.web.problems import Problem
from linguad.wire import opus
from linguad.wire.session import AudioAck, Backpressure, ErrorMessage


def kinds(messages: list[Json]) -> list[str]:
    return [message["type"] for message in messages]


def code(messages: list[Json]) -> str:
    (error,) = messages
    assert error["type"] == "error"
    assert error["request_id"] == "r-1"
    assert isinstance(error["retryable"], bool)
    return str(error["code"])


def test_start_tells_what_holds() -> None:
    started = Stage().start(client_ref="mine")
    limits = started.pop("limits")
    assert started == {
        "type": "started",
        "session_id": "s-1",
        "trace_id": "trace",
        "request_id": "r-1",
        "src_lang": "zh",
        "tgt_lang": "en",
        "audio_format": "pcm16",
        "sample_rate": 16000,
        "segmentation": "utterance",
        "partials": False,
        "events": False,
        "tts": True,
        "output_format": "pcm16",
        "binary_audio": False,
        "client_ref": "mine",
    }
    assert limits["max_inflight_utterances"] == 4
    assert Stage().start(segmentation="stream")["partials"] is True


def test_an_utterance_is_answered_by_a_final() -> None:
    stage = Stage()
    stage.start()
    assert stage.audio(pcm(250)) == []
    assert stage.uttered == [pcm(250)]
    stage.now = 0.5
    assert stage.news(result(0, group_id="g-1", part_index=0)) == [
        {
            "type": "final",
            "text": "said 0",
            "audio": base64(pcm(20)),
            "utterance_index": 0,
            "text_asr": "heard 0",
            "tts_format": "pcm16",
            "tts_sample_rate": 16000,
            "duration_ms": 500,
            "group_id": "g-1",
            "part_index": 0,
            "usage": {"audio_ms": 250},
        }
    ]
    assert stage.say({"type": "end", "close": True}) == []
    assert stage.hung_up == 1
    assert stage.over() == [
        {
            "type": "ended",
            "session_id": "s-1",
            "reason": "client_end",
            "usage": {"audio_ms": 250, "billed_seconds": 1},
        }
    ]
    assert not stage.open
    assert stage.closed is None


def test_the_older_dialect_is_understood() -> None:
    stage = Stage(known=False)
    (started,) = stage.say({"type": "init", "api_key": KEY, "src_lang": "en", "tgt_lang": "es"})
    assert (started["src_lang"], started["tgt_lang"]) == ("en", "es")
    stage.say({"type": "audio", "data": base64(pcm())})
    assert stage.uttered == [pcm()]


def test_strangers_say_who_they_are_first() -> None:
    stage = Stage(known=False)
    assert stage.say({"type": "auth", "token": KEY}) == []
    stage.start()
    assert code(stage.say({"type": "auth", "token": KEY})) == "multiple_credentials"


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        ({"type": "auth", "token": "wrong"}, "invalid_credentials"),
        ({"type": "init", "api_key": "wrong"}, "invalid_credentials"),
        ({"type": "start"}, "unauthorized"),
        ({"type": "init"}, "unauthorized"),
        ({"type": "ping"}, "unauthorized"),
        ({"type": "auth"}, "invalid_field"),
        ("garbage", "invalid_json"),
        (b"\0\0", "binary_not_negotiated"),
    ],
)
def test_strangers_who_say_anything_else_are_sent_away(frame: Any, told: str) -> None:
    stage = Stage(known=False)
    assert code(stage.say(frame)) == told
    assert stage.closed is not None
    assert stage.closed.code == (1003 if isinstance(frame, bytes) else 4401)
    assert stage.say({"type": "auth", "token": KEY}) == []


@pytest.mark.parametrize(("status", "close"), [(401, 4401), (403, 4403), (402, 4403), (429, 4429)])
def test_why_a_stranger_stays_one_shows_in_the_close_code(status: int, close: int) -> None:
    stage = Stage(known=False)
    assert (
        code(stage.perform(stage.conversation.rejected(Problem(status, "some_code", "No.")))) == "some_code"
    )
    assert stage.closed is not None
    assert stage.closed.code == close


@pytest.mark.parametrize(
    ("frame", "told", "field"),
    [
        ("", "invalid_json", None),
        ("[]", "invalid_json", None),
        ({}, "unknown_type", None),
        ({"type": "dance"}, "unknown_type", None),
        ({"type": "start", "sample_rate": "x"}, "invalid_field", "sample_rate"),
        ({"type": "start", "src_lang": "12"}, "unsupported_language", "src_lang"),
        ({"type": "start", "tgt_lang": "auto"}, "unsupported_language", "tgt_lang"),
        ({"type": "start", "audio_format": "mp3"}, "unsupported_audio_format", "audio_format"),
        ({"type": "start", "sample_rate": 4000}, "invalid_sample_rate", "sample_rate"),
        ({"type": "start", "segmentation": "word"}, "invalid_field", "segmentation"),
        ({"type": "start", "output_format": "mp3"}, "invalid_field", "output_format"),
        ({"type": "start", "audio_format": "wav"}, "unsupported_audio_format", "audio_format"),
        ({"type": "start", "mode": "two_way_auto", "lang_a": "zh"}, "invalid_field", "lang_b"),
        ({"type": "start", "auto_langs": ["zh", "auto"]}, "unsupported_language", "auto_langs"),
        ({"type": "audio", "chunk": "AAAA"}, "not_started", None),
        ({"type": "end"}, "not_started", None),
        ({"type": "cancel"}, "not_started", None),
    ],
)
def test_mistakes_before_the_session_leave_the_socket_open(frame: Any, told: str, field: str | None) -> None:
    stage = Stage()
    heard = stage.say(frame)
    assert code(heard) == told
    assert field is None or heard[0]["details"][0]["field"] == field
    assert stage.closed is None
    stage.start()


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        ({"type": "start"}, "already_started"),
        ({"type": "init", "api_key": KEY}, "already_started"),
        ({"type": "audio"}, "missing_chunk"),
        ({"type": "audio", "chunk": 7}, "missing_chunk"),
        ({"type": "audio", "chunk": None, "data": None}, "missing_chunk"),
        ({"type": "audio", "chunk": "not base64!"}, "invalid_audio"),
        ({"type": "audio", "chunk": ""}, "invalid_audio"),
        ({"type": "audio", "chunk": "AA=="}, "invalid_audio"),
        ({"type": "audio", "chunk": base64(pcm(30_100))}, "audio_too_long"),
    ],
)
def test_mistakes_within_a_session_leave_it_as_it_is(frame: Any, told: str) -> None:
    stage = Stage()
    stage.start()
    assert code(stage.say(frame)) == told
    assert stage.uttered == []
    stage.audio()
    assert kinds(stage.news(result(0))) == ["final"]


def test_four_are_in_flight_and_the_rest_waits_without_being_read_when_it_is_much() -> None:
    stage = Stage(rules=StreamRules(backlog_bytes=2 * len(pcm())))
    stage.start()
    for _ in range(5):
        stage.audio()
        assert stage.conversation.reads(0)
    assert len(stage.uttered) == 4
    stage.audio()
    assert not stage.conversation.reads(0)
    assert kinds(stage.news(result(0))) == ["final"]
    assert len(stage.uttered) == 5
    assert stage.conversation.reads(0)
    assert not stage.conversation.reads(0, unsaid_bytes=len(pcm()))
    assert stage.say({"type": "ping", "id": "p"}) == [{"type": "pong", "id": "p"}]


def test_what_gathers_while_nothing_is_read_is_no_flood() -> None:
    stage = Stage(rules=StreamRules(backlog_bytes=1, burst=10, messages_per_s=10))
    stage.start()
    for _ in range(5):
        stage.audio()
    assert not stage.conversation.reads(stage.now)
    stage.now = 100
    stage.news(result(0))
    assert stage.conversation.reads(stage.now)
    for _ in range(1000):
        assert kinds(stage.say({"type": "ping"})) == ["pong"]


def test_a_flood_is_dropped_and_three_times_ends_it() -> None:
    stage = Stage(rules=StreamRules(burst=5))
    stage.start()
    for _ in range(4):
        stage.say({"type": "ping"})
    assert code(stage.say({"type": "ping"})) == "rate_limited"
    assert code(stage.audio()) == "rate_limited"
    assert stage.uttered == []
    stage.now = 9.9
    for _ in range(5):
        assert kinds(stage.say({"type": "ping"})) == ["pong"]
    heard = stage.say({"type": "ping"})
    assert [message["type"] for message in heard] == ["error", "ended"]
    assert stage.closed is CloseReason.TOO_MANY_MESSAGES


def test_partials_come_before_the_final_and_only_if_wanted() -> None:
    for wanted in (True, False):
        stage = Stage()
        stage.start(partials=wanted)
        stage.audio()
        heard = [*stage.news(partial(0)), *stage.news(result(0)), *stage.news(partial(0, is_final=True))]
        assert kinds(heard) == (["partial", "final"] if wanted else ["final"])


def test_finals_leave_in_order_whatever_the_core_does() -> None:
    stage = Stage()
    stage.start()
    for _ in range(4):
        stage.audio()
    assert stage.news(result(2)) == []
    assert kinds(stage.news(missing(0))) == ["empty"]
    assert [message["utterance_index"] for message in stage.news(result(1))] == [1, 2]
    assert stage.news(result(0, late=True)) == []
    assert stage.news(result(7)) == []


def test_a_result_that_was_waited_for_no_longer_comes_behind_the_others() -> None:
    """Its speech is charged, so it is told; once."""
    stage = Stage()
    stage.start()
    stage.audio(pcm(250))
    stage.audio(pcm(500))
    assert kinds(stage.news(missing(0, "gap_timeout"))) == ["empty"]
    assert kinds(stage.news(result(1))) == ["final"]
    (late,) = stage.news(result(0, late=True))
    assert (late["type"], late["utterance_index"], late["late"]) == ("final", 0, True)
    assert late["usage"] == {"audio_ms": 250}
    assert stage.news(result(0, late=True)) == []


@pytest.mark.parametrize("reason", ["silence_detected", "merged", "gap_timeout", "pending_overflow_evict"])
def test_nothing_to_say_is_empty(reason: str) -> None:
    stage = Stage()
    stage.start()
    stage.audio()
    assert stage.news(missing(0, reason)) == [{"type": "empty", "utterance_index": 0, "reason": reason}]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("job_failed", "translation_failed"),
        ("job_timeout", "translation_timeout"),
        ("no_available_node", "no_capacity"),
        ("node_overloaded", "no_capacity"),
        ("node_lost", "no_capacity"),
        ("cancelled", "upstream_session_lost"),
        ("news to us", "translation_failed"),
    ],
)
def test_a_failure_is_an_error_with_the_index(reason: str, told: str) -> None:
    stage = Stage()
    stage.start()
    stage.audio()
    heard = stage.news(missing(0, reason))
    assert code(heard) == told
    assert heard[0]["utterance_index"] == 0


@pytest.mark.parametrize(
    ("internal", "told", "retryable"),
    [
        ("NODE_UNAVAILABLE", "no_capacity", True),
        ("MODEL_LOAD_FAILED", "model_unavailable", True),
        ("NMT_TIMEOUT", "translation_timeout", True),
        ("SCHEDULER_DEPENDENCY_DOWN", "upstream_unavailable", True),
        ("SESSION_CLOSED", "upstream_session_lost", True),
        ("UNSUPPORTED_FEATURE", "unsupported_feature", False),
        ("INVALID_MESSAGE", "upstream_protocol_error", False),
        ("PROCESSING_ERROR", "translation_failed", True),
        ("BRAND_NEW", "translation_failed", True),
    ],
)
def test_a_failed_job_is_told_at_once_and_once(internal: str, told: str, retryable: bool) -> None:
    stage = Stage()
    stage.start()
    stage.audio()
    heard = stage.news(event(0, "ERROR", error_code=internal, hint="inner cause"))
    assert code(heard) == told
    assert heard[0]["retryable"] is retryable
    assert "inner" not in heard[0]["message"]
    assert stage.news(missing(0, "job_failed")) == []
    heard = stage.news(ErrorMessage(code=internal, message="inner cause"))
    assert code(heard) == told
    assert "utterance_index" not in heard[0]


def test_events_come_only_if_asked_for_and_unserved_languages_answer_nothing() -> None:
    for wanted in (True, False):
        stage = Stage()
        stage.start(events=wanted)
        stage.audio()
        unserved = event(1, "ERROR", job=False, details={"alternatives": []})
        heard = [*stage.news(event(0, "DISPATCHED", elapsed_ms=3)), *stage.news(unserved)]
        assert kinds(heard) == (["event", "event"] if wanted else [])
        assert kinds(stage.news(result(0))) == ["final"]


def test_gaps_are_told_once_and_repetitions_are_not_taken() -> None:
    stage = Stage()
    stage.start()
    assert stage.audio(seq=3) == []
    heard = stage.audio(seq=6)
    assert code(heard) == "sequence_gap"
    assert heard[0]["details"] == {"expected": 4, "got": 6}
    assert stage.audio(seq=9) == []
    assert code(stage.audio(seq=9)) == "invalid_field"
    assert len(stage.uttered) == 3


def test_a_stream_is_cut_by_the_core() -> None:
    stage = Stage()
    stage.start(segmentation="stream")
    stage.audio(pcm(100))
    stage.audio(pcm(100), is_final=True)
    stage.say({"type": "end"})
    stage.say({"type": "audio", "is_final": True})
    assert stage.streamed == [(pcm(100), False), (pcm(100), True), (b"", True), (b"", True)]
    assert stage.news(event(0, "INPUT_STARTED", job=False)) == []
    assert stage.news(event(0, "INPUT_ENDED", job=False)) == []
    assert kinds(stage.news(partial(0))) == ["partial"]
    assert kinds(stage.news(result(0))) == ["final"]
    stage.say({"type": "end", "close": True})
    (ended,) = stage.over()
    assert ended["usage"] == {"audio_ms": 200}


def test_a_stream_may_be_split_inside_a_sample() -> None:
    stage = Stage()
    stage.start(segmentation="stream")
    sound = bytes(range(200))
    for start, end in ((0, 33), (33, 34), (34, 35), (35, 36), (36, 200)):
        assert stage.audio(sound[start:end]) == []
    assert b"".join(audio for audio, _ in stage.streamed) == sound
    assert code(stage.audio(b"")) == "invalid_audio"


def test_streamed_utterances_without_answer_hold_the_audio_back() -> None:
    stage = Stage()
    stage.start(segmentation="stream")
    for index in range(4):
        stage.news(event(index, "INPUT_ENDED", job=False))
    stage.audio()
    assert stage.streamed == []
    stage.news(missing(0))
    assert len(stage.streamed) == 1


def test_opus_is_counted_by_packets() -> None:
    stage = Stage()
    stage.start(audio_format="opus")
    stage.audio(opus.join([b"x" * 40] * 13))
    assert stage.news(result(0))[0]["usage"] == {"audio_ms": 260}
    assert code(stage.audio(b"\xff\xff\0")) == "invalid_audio"


def test_binary_audio_if_it_was_agreed() -> None:
    stage = Stage()
    stage.start(binary_audio=True)
    assert stage.say(pcm()) == []
    assert stage.uttered == [pcm()]
    stage.say({"type": "end", "close": True})
    assert code(stage.say(pcm())) == "not_started"
    stage.over()
    stage.start()
    heard = stage.say(pcm())
    assert kinds(heard) == ["error", "ended"]
    assert stage.closed is CloseReason.BINARY_NOT_NEGOTIATED


def test_cancel_answers_what_is_open_and_the_core_still_counts() -> None:
    stage = Stage()
    stage.start()
    for _ in range(6):
        stage.audio()
    heard = stage.say({"type": "cancel"})
    assert [(message["utterance_index"], message["reason"]) for message in heard] == [
        (index, "cancelled") for index in range(6)
    ]
    stage.audio()
    assert len(stage.uttered) == 4, "the four are still with the core"
    assert stage.news(result(0)) == []
    assert len(stage.uttered) == 5
    assert stage.news(result(3)) == []
    (final,) = stage.news(result(4))
    assert final["utterance_index"] == 6, "numbered as the client counts"


def test_cancel_of_a_stream_drops_what_is_being_spoken() -> None:
    stage = Stage()
    stage.start(segmentation="stream")
    stage.audio()
    stage.news(event(0, "INPUT_STARTED", job=False))
    assert kinds(stage.say({"type": "cancel"})) == ["empty"]
    assert stage.streamed[-1] == (b"", True)
    stage.news(event(0, "INPUT_ENDED", job=False))
    assert stage.news(result(0)) == []
    assert stage.say({"type": "cancel"}) == []


def test_end_with_close_waits_for_everything_and_takes_no_more() -> None:
    stage = Stage()
    stage.start()
    for _ in range(6):
        stage.audio()
    assert stage.say({"type": "end", "close": True}) == []
    assert stage.hung_up == 0
    assert code(stage.audio()) == "not_started"
    assert code(stage.say({"type": "start"})) == "already_started"
    for index in range(6):
        assert kinds(stage.news(result(index))) == ["final"]
    assert stage.hung_up == 1
    assert kinds(stage.over()) == ["ended"]
    assert stage.start()["session_id"] == "s-1", "another one may follow"
    stage.audio()
    assert stage.news(result(0))[0]["utterance_index"] == 0


def test_no_start_in_time_and_none_after_the_end() -> None:
    for known in (True, False):
        stage = Stage(known=known)
        assert stage.wait(9.9) == []
        assert stage.closed is None
        stage.wait(0.2)
        assert stage.closed is CloseReason.TIME_OUT
    stage = Stage()
    stage.start()
    stage.say({"type": "end", "close": True})
    stage.over()
    stage.wait(11)
    assert stage.closed is CloseReason.NORMAL


def test_a_session_that_is_refused_leaves_the_socket_open() -> None:
    stage = Stage()
    stage.full = Problem(429, "too_many_sessions", "At most 10 sessions; end one first.")
    assert code(stage.say({"type": "start"})) == "too_many_sessions"
    stage.wait(100)
    stage.full = None
    stage.start()


def test_without_audio_it_ends_after_a_while() -> None:
    stage = Stage()
    stage.start()
    stage.wait(200)
    stage.audio()
    stage.news(result(0))
    stage.wait(200)
    assert stage.closed is None
    heard = stage.wait(101)
    assert kinds(heard) == ["error", "ended"]
    assert heard[0]["code"] == heard[1]["reason"] == "idle_timeout"
    assert stage.closed is CloseReason.TIME_OUT


def test_after_four_hours_it_ends_in_order() -> None:
    stage = Stage()
    stage.start()
    while stage.hung_up == 0:
        stage.audio()
        if stage.now < RULES.max_s - 100:
            index = len(stage.uttered) - 1
            stage.news(result(index))
        stage.wait(100)
    assert stage.now == RULES.max_s
    open_index = len(stage.uttered) - 1
    assert stage.news(result(open_index))[0]["utterance_index"] == open_index
    (ended,) = stage.over()
    assert ended["reason"] == "max_duration"
    assert stage.closed is CloseReason.TIME_OUT


def test_an_answer_that_does_not_come_is_a_timeout_and_makes_room() -> None:
    stage = Stage()
    stage.start()
    for _ in range(5):
        stage.audio()
    heard = stage.wait(RULES.answer_s)
    assert [message["code"] for message in heard] == ["translation_timeout"] * 4
    assert len(stage.uttered) == 5
    assert stage.news(result(0)) == []
    assert kinds(stage.news(result(4))) == ["final"]


def test_an_end_that_does_not_come_is_made() -> None:
    stage = Stage()
    stage.start()
    stage.audio()
    stage.say({"type": "end", "close": True})
    heard = stage.wait(RULES.answer_s)
    assert kinds(heard) == ["error", "ended"]
    assert not stage.open


def test_a_lost_session_is_told_and_closes_the_socket() -> None:
    stage = Stage()
    stage.start()
    stage.audio()
    heard = stage.over(CloseReason.INTERNAL_ERROR)
    assert [message.get("code") for message in heard] == ["upstream_lost", "upstream_session_lost", None]
    assert kinds(heard)[-1] == "ended"
    assert stage.closed is CloseReason.UPSTREAM_LOST


def test_a_stop_answers_what_was_said_first() -> None:
    stage = Stage()
    stage.start()
    stage.audio()
    assert stage.stop() == []
    assert stage.hung_up == 1
    assert kinds(stage.news(result(0))) == ["final"]
    (ended,) = stage.over()
    assert ended["reason"] == "shutdown"
    assert stage.closed is CloseReason.SHUTDOWN


def test_a_stop_that_takes_too_long_is_made_short() -> None:
    stage = Stage()
    stage.start()
    stage.audio()
    stage.stop()
    assert kinds(stage.abandon()) == ["error", "ended"]
    assert stage.closed is CloseReason.SHUTDOWN
    idle = Stage()
    assert idle.stop() == []
    assert idle.closed is CloseReason.SHUTDOWN


def test_who_may_not_go_on_is_told_why() -> None:
    stage = Stage()
    stage.start()
    expelled = stage.conversation.expel("tenant_disabled", "This account is disabled.", CloseReason.FORBIDDEN)
    heard = stage.perform(expelled)
    assert [message.get("code") for message in heard] == ["tenant_disabled", None]
    assert heard[1]["reason"] == "tenant_disabled"
    assert stage.closed is CloseReason.FORBIDDEN


def test_what_is_answered_is_acknowledged_if_asked_for() -> None:
    stage = Stage()
    stage.start(acks=True)
    for seq in (10, 11, 12):
        stage.audio(seq=seq)
    assert kinds(stage.news(missing(1))) == ["empty"]
    heard = stage.news(result(0))
    assert [message.get("seq") for message in heard] == [None, 11]
    stage.say({"type": "end", "close": True})
    stage.over()
    stage.start(acks=True, segmentation="stream")
    for seq in (3, 4, 6):
        stage.audio(seq=seq)
    stage.say({"type": "end"})
    assert stage.news(AudioAck(session_id="s-1", seq=1, audio_bytes=0)) == [{"type": "audio_ack", "seq": 4}]
    assert stage.news(AudioAck(session_id="s-1", seq=3, audio_bytes=0)) == [{"type": "audio_ack", "seq": 6}]
    stage = Stage()
    stage.start()
    stage.audio(seq=1)
    assert kinds(stage.news(result(0))) == ["final"]


def test_a_core_that_is_short_of_memory_is_given_time() -> None:
    stage = Stage()
    stage.start(segmentation="stream")
    stage.news(Backpressure(action="PAUSE", resume_after_ms=2000))
    assert not stage.conversation.reads(stage.now)
    stage.wait(2)
    assert stage.conversation.reads(stage.now)
