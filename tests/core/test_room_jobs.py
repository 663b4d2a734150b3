"""The jobs of an utterance in a room (session-protocol 6.4, resolution 21)."""

from __future__ import annotations

import pytest
from core.support import request

from linguad.core.room_jobs import language_heard, language_of_result, room_requests, source_in_room
from linguad.core.rooms import Plan
from linguad.wire.common import ExtraResult

TWO_WAY = request(
    src="auto", tgt="ko", mode="two_way_auto", lang_a="en", lang_b="ko", auto_langs=["en", "ko"]
)


@pytest.mark.parametrize(
    ("extra", "language"),
    [
        (None, ""),
        (ExtraResult(), ""),
        (ExtraResult(language_probabilities={"en": 0.2, "ko": 0.7, "es": 0.1}), "ko"),
        (ExtraResult(detected_src_lang="en", language_probabilities={"ko": 0.7}), "en"),
    ],
)
def test_language_that_a_node_heard(extra: ExtraResult | None, language: str) -> None:
    assert language_heard(extra) == language


def test_source_is_what_is_said_else_what_was_heard_else_the_first_of_the_pair() -> None:
    assert source_in_room(request(src="en"), "ko") == "en"
    assert source_in_room(TWO_WAY, "ko") == "ko"
    assert source_in_room(TWO_WAY, "") == "en"
    assert source_in_room(request(src="auto"), "") == "auto"


def test_one_job_for_each_language_and_one_tells_the_speaker() -> None:
    jobs = room_requests(TWO_WAY, Plan("room-1", ["es", "fr"], own=False), "en")
    assert [(job.src_lang, job.tgt_lang, job.for_speaker) for job in jobs] == [
        ("en", "es", True),
        ("en", "fr", False),
    ]
    for job in jobs:
        assert (job.room_id, job.mode, job.lang_a, job.lang_b, job.auto_langs) == (
            "room-1",
            "one_way",
            None,
            None,
            None,
        )


def test_languages_to_choose_from_stay_where_the_source_is_unknown() -> None:
    asked = request(src="auto", tgt="ko", auto_langs=["en", "ko"])
    (job,) = room_requests(asked, Plan("room-1", ["es"], own=False), "auto")
    assert (job.src_lang, job.auto_langs, job.mode) == ("auto", ["en", "ko"], None)


def test_who_needs_no_translation_reads_what_was_said() -> None:
    (job,) = room_requests(TWO_WAY, Plan("room-1", [], own=False, recognised=True), "en")
    assert (job.src_lang, job.tgt_lang, job.lang_a, job.room_id) == ("en", "en", None, "room-1")
    assert (job.pipeline.use_asr, job.pipeline.use_nmt, job.pipeline.use_tts) == (True, False, False)
    assert job.for_speaker


def test_who_needs_one_later_in_the_turn_gets_it_beside_that() -> None:
    jobs = room_requests(TWO_WAY, Plan("room-1", ["es"], own=False, recognised=True), "en")
    assert [(job.tgt_lang, job.for_speaker, job.pipeline.use_nmt) for job in jobs] == [
        ("en", True, False),
        ("es", False, True),
    ]


def test_speaker_alone_gets_what_it_gets_outside_rooms() -> None:
    (job,) = room_requests(TWO_WAY, Plan("room-1", [], own=True), "en")
    assert (job.src_lang, job.tgt_lang, job.lang_a, job.room_id) == ("auto", "ko", "en", "room-1")
    assert job.for_speaker
    assert language_of_result(job) == ""


def test_language_of_a_result_is_the_target() -> None:
    assert language_of_result(request(tgt="es")) == "es"
