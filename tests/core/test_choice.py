"""Who gets a job: features, pairing, spread, overrides, possible languages (node-protocol 5)."""

from __future__ import annotations

from typing import Any

import pytest
from core.support import Desk, heartbeat, languages, only, sent, services, told

from linguad.core.actions import Assign, Deliver
from linguad.core.job import Chosen
from linguad.core.key import ANY, Features, Key
from linguad.core.services import CORE_SERVICES, Services
from linguad.core.utterance import CutReason
from linguad.errors import ErrorCode
from linguad.wire.common import FeatureFlags
from linguad.wire.override import Override

EMOTION = FeatureFlags(emotion_detection=True)


def errors(actions: list[Any]) -> list[ErrorCode | None]:
    return [action.outcome.error for action in only(Deliver, actions)]


def fleet_of(names: str, **rules: Any) -> Desk:
    desk = Desk(**rules)
    for node_id in names:
        desk.node(node_id, cap=8)
    return desk


class TestFeatures:
    def test_preferred_the_node_that_claims_them_gets_the_job_while_it_is_free(self) -> None:
        desk = fleet_of("abcdef")
        desk.node("able", cap=2, features_supported=EMOTION)
        jobs = [desk.submit(0, f"s-{number}", features=EMOTION) for number in range(3)]
        nodes = [job.attempts[0].node_id for job in jobs]
        assert nodes[:2] == ["able", "able"]
        assert nodes[2] != "able"
        assert [job.attempts[0].features for job in jobs] == [Features.EMOTION_DETECTION] * 2 + [
            Features.NONE
        ]

    def test_required_the_job_waits_for_such_a_node(self) -> None:
        desk = fleet_of("a", require_features=True)
        job = desk.submit(features=EMOTION)
        assert not job.attempts
        assert sent(desk.node("able", features_supported=EMOTION))
        assert job.attempts[0].node_id == "able"

    def test_required_and_nobody_has_them(self) -> None:
        desk = fleet_of("a", require_features=True)
        desk.submit(features=FeatureFlags(emotion_detection=True, persona_adaptation=True))
        (ended,) = only(Deliver, desk.wait(10.0))
        assert ended.outcome.error is ErrorCode.UNSUPPORTED_FEATURE
        assert ended.outcome.details is not None
        assert ended.outcome.details["features"] == ["emotion_detection", "persona_adaptation"]
        assert ended.outcome.details["reason"] == "feature_unsupported"

    def test_required_by_one_tenant(self) -> None:
        desk = fleet_of("a", require_features_tenants=frozenset({"strict"}))
        assert desk.submit(features=EMOTION).attempts
        assert not desk.submit(session="s-2", features=EMOTION, tenant="strict").attempts

    @pytest.mark.parametrize("required", [False, True])
    def test_to_tell_speakers_apart_needs_tone(self, required: bool) -> None:
        flags = FeatureFlags(speaker_identification=True)
        desk = Desk(require_features=required)
        desk.node("a", features_supported=flags)
        job = desk.submit(features=flags)
        assert job.key.needs == CORE_SERVICES | Services.TONE
        assert not job.attempts
        found = services("asr", "nmt", "tts", "tone")
        desk.node("b", features_supported=flags, installed_services=found)
        assert job.attempts[0].node_id == "b"


class TestPairing:
    def test_all_jobs_go_to_the_paired_node_though_it_is_private(self) -> None:
        desk = fleet_of("ab")
        desk.node("mine", cap=8, accept_public_jobs=False)
        jobs = [desk.submit(index, node_id="mine") for index in range(4)]
        assert {job.attempts[0].node_id for job in jobs} == {"mine"}
        assert {job.attempts[0].chosen for job in jobs} == {Chosen.PAIRED}
        assert all(desk.submit(0, f"s-{n}").attempts[0].node_id != "mine" for n in range(2, 9))

    def test_without_it_they_wait_and_end(self) -> None:
        desk = fleet_of("ab")
        desk.submit(node_id="mine")
        actions = desk.wait(10.0)
        assert told(actions) == ["0:no_available_node"]
        assert errors(actions) == [ErrorCode.NODE_UNAVAILABLE]

    def test_it_comes_back_in_time(self) -> None:
        desk = fleet_of("ab")
        job = desk.submit(node_id="mine")
        desk.wait(9.0)
        assert sent(desk.node("mine", accept_public_jobs=False))
        assert job.attempts[0].node_id == "mine"

    def test_a_free_slot_of_it_is_given_to_who_waits(self) -> None:
        desk = Desk()
        desk.node("mine", cap=1, accept_public_jobs=False)
        first, second = desk.submit(0, node_id="mine"), desk.submit(1, node_id="mine")
        assert not second.attempts
        assert [message.job_id for message in sent(desk.answer(first.attempts[0]))] == [second.id]

    def test_others_may_help_out_where_that_is_allowed(self) -> None:
        desk = fleet_of("a", pairing_allow_fallback=True)
        job = desk.submit(node_id="mine")
        desk.wait(10.0)
        assert job.attempts[0].node_id == "a"

    def test_paired_keys_do_not_make_the_index_grow(self) -> None:
        desk = fleet_of("abc")
        before = desk.fleet.table.statistics()["keys"]
        for node_id in "abc":
            desk.submit(session=f"s-{node_id}", node_id=node_id)
        assert desk.fleet.table.statistics()["keys"] == before

    def test_both_ways_are_asked_of_the_paired_node_only_if_it_can(self) -> None:
        desk = Desk()
        desk.node("both", "en", "es")
        one_way = languages(asr_languages=["en"], tts_languages=["es"])
        desk.node("mine", language_capabilities=one_way)
        job = desk.submit(src="auto", lang_a="en", lang_b="es", node_id="mine")
        assert job.attempts[0].node_id == "mine"


class TestSpread:
    def test_nodes_of_the_last_half_minute_are_avoided(self) -> None:
        desk = fleet_of("abcdef", affinity="spread")
        nodes = []
        for index in range(12):
            job = desk.submit(index)
            nodes.append(job.attempts[0].node_id)
            desk.answer(job.attempts[0])
            desk.wait(7.0)
        assert all(len(set(nodes[at : at + 5])) == 5 for at in range(8))

    def test_a_lone_node_gets_all(self) -> None:
        desk = fleet_of("a", affinity="spread")
        for index in range(3):
            desk.answer(desk.submit(index).attempts[0])

    def test_each_node_sees_a_session_of_its_own_without_gaps(self) -> None:
        desk = fleet_of("abc", affinity="spread")
        seen: dict[tuple[str, str], list[int]] = {}
        for index in range(9):
            job = desk.submit(index)
            attempt = job.attempts[0]
            seen.setdefault((attempt.node_id, attempt.wire_session_id), []).append(index)
            desk.answer(attempt)
        assert all(indexes == list(range(indexes[0], indexes[-1] + 1)) for indexes in seen.values())
        assert len({session for _, session in seen}) == len(seen)
        assert min(seen, key=seen.__getitem__)[1] == "s-1"

    def test_a_turn_stays_with_its_node(self) -> None:
        desk = fleet_of("abc", affinity="spread")
        jobs = [desk.submit(index, turn_id="t", reason=CutReason.MAX_DURATION) for index in range(3)]
        jobs.append(desk.submit(3, turn_id="t"))
        assert len({(job.attempts[0].node_id, job.attempts[0].wire_session_id) for job in jobs}) == 1

    @pytest.mark.parametrize(
        ("seconds", "pause_s", "stays"), [(2.0, 9.0, True), (2.0, 11.0, False), (6.0, 1.0, False)]
    )
    def test_audio_that_a_node_may_keep_back_keeps_the_session_there(
        self, seconds: float, pause_s: float, stays: bool
    ) -> None:
        desk = fleet_of("abcdef", affinity="spread")
        first = desk.submit(0, seconds=seconds, reason=CutReason.TIMEOUT)
        desk.wait(pause_s)
        second = desk.submit(1)
        assert (second.attempts[0].node_id == first.attempts[0].node_id) == stays

    def test_demanded_by_a_tenant(self) -> None:
        desk = fleet_of("abcd", spread_tenants=frozenset({"private"}))
        for session, tenant, most in (("s-1", "direct", 1), ("s-2", "private", 3)):
            nodes = set()
            for index in range(3):
                job = desk.submit(index, session, tenant=tenant)
                nodes.add(job.attempts[0].node_id)
                desk.answer(job.attempts[0])
            assert len(nodes) == most


class TestSegments:
    def test_a_session_that_returns_to_a_node_has_another_name_there(self) -> None:
        """The node would let it wait for the indexes that another one had (node-protocol 0.3)."""
        desk = fleet_of("a")
        desk.answer(desk.submit(0).attempts[0])
        desk.node("b", cap=8)
        desk.dispatch.override("a", Override(drain=True), desk.now)
        for index in (1, 2):
            job = desk.submit(index)
            assert (job.attempts[0].node_id, job.attempts[0].wire_session_id) == ("b", "s-1")
            desk.answer(job.attempts[0])
        desk.dispatch.override("a", Override(), desk.now)
        desk.dispatch.override("b", Override(drain=True), desk.now)
        back = desk.submit(3).attempts[0]
        assert (back.node_id, back.wire_session_id, back.wire_job_id) == ("a", "s-1~s1", "job-4")

    def test_a_second_try_elsewhere_leaves_no_gap_either(self) -> None:
        """Each wire session of a node has its indexes in a row, whatever failed in between."""
        desk = fleet_of("ab")
        seen: dict[tuple[str, str], list[int]] = {}
        for index in range(40):
            job = desk.submit(index)
            while not job.status.final:
                attempt = job.attempts[-1]
                seen.setdefault((attempt.node_id, attempt.wire_session_id), []).append(index)
                desk.answer(attempt, "failed" if (index * 7 + attempt.number) % 5 == 0 else "complete")
        for indexes in seen.values():
            assert indexes == list(range(indexes[0], indexes[0] + len(indexes)))

    def test_a_row_that_another_node_got_is_not_the_sessions(self) -> None:
        desk = fleet_of("a", affinity="turn")
        desk.answer(desk.submit(0).attempts[0])
        desk.lose("a")
        desk.fleet.scan(desk.now)
        desk.now += 400.0
        desk.fleet.scan(desk.now)
        desk.node("z")
        attempt = desk.submit(1).attempts[0]
        assert (attempt.chosen, attempt.wire_session_id) == (Chosen.BEST, "s-1~s1")


class TestOverride:
    def test_a_drained_node_finishes_and_gets_nothing_new(self) -> None:
        desk = fleet_of("a")
        job = desk.submit(0)
        desk.dispatch.override("a", Override(drain=True), desk.now)
        waiting = desk.submit(1)
        assert not waiting.attempts
        assert told(desk.answer(job.attempts[0])) == ["0:hola"]
        assert not waiting.attempts
        actions = desk.dispatch.override("a", Override(), desk.now)
        assert [message.job_id for message in sent(actions)] == [waiting.id]

    def test_what_a_drained_node_has_of_an_unfinished_turn_goes_elsewhere(self) -> None:
        desk = fleet_of("a")
        slices = [desk.submit(index, turn_id="t", reason=CutReason.MAX_DURATION) for index in range(2)]
        whole = desk.submit(0, "s-2")
        desk.node("b", cap=8)
        moved = sent(desk.dispatch.override("a", Override(drain=True), desk.now))
        assert [(message.job_id, message.session_id) for message in moved] == [
            ("job-1~r2", "s-1~r2"),
            ("job-2~r2", "s-1~r2"),
        ]
        closing = desk.submit(2, turn_id="t")
        assert {job.attempts[-1].node_id for job in (*slices, closing)} == {"b"}
        assert whole.attempts[-1].node_id == "a"

    def test_an_unfinished_turn_stays_where_it_is_if_nobody_else_could_do_it(self) -> None:
        desk = fleet_of("a")
        job = desk.submit(turn_id="t", reason=CutReason.MAX_DURATION)
        assert desk.dispatch.override("a", Override(drain=True), desk.now) == []
        assert job.attempts[0].open

    def test_draining_outlives_a_reconnect(self) -> None:
        desk = fleet_of("a")
        desk.dispatch.override("a", Override(drain=True), desk.now)
        desk.lose("a")
        desk.node("a")
        assert not desk.submit().attempts

    def test_the_operators_cap_wins_over_the_nodes(self) -> None:
        desk = fleet_of("a")
        desk.dispatch.override("a", Override(cap=1), desk.now)
        desk.beat("a", max_concurrent_jobs=9)
        assert desk.submit(0, "s-1").attempts
        waiting = desk.submit(0, "s-2")
        assert not waiting.attempts
        assert sent(desk.dispatch.override("a", Override(cap=2), desk.now))
        assert waiting.attempts

    def test_weight_draws_work(self) -> None:
        desk = fleet_of("abc")
        desk.dispatch.override("c", Override(weight=10.0), desk.now)
        for number in range(8):
            assert desk.submit(0, f"s-{number}").attempts[0].node_id == "c"

    def test_an_unknown_node(self) -> None:
        with pytest.raises(KeyError):
            Desk().dispatch.override("a", Override(), 0.0)


class TestPossibleLanguages:
    def test_the_first_that_somebody_serves_with_room(self) -> None:
        desk = Desk()
        desk.node("en", language_capabilities=languages(asr_languages=["en"], tts_languages=["zh"]), cap=1)
        desk.node("es", language_capabilities=languages(asr_languages=["es"], tts_languages=["zh"]))
        asked = {"src": "auto", "tgt": "zh", "auto_langs": ["fr", "en", "es"]}
        assert [desk.submit(0, f"s-{n}", **asked).attempts[0].node_id for n in range(2)] == ["en", "es"]

    def test_nodes_that_hear_none_of_them_are_no_help(self) -> None:
        desk = Desk()
        desk.node("es", language_capabilities=languages(asr_languages=["es"], tts_languages=["zh"]))
        assert not desk.submit(src="auto", tgt="zh", auto_langs=["fr", "en"]).attempts

    def test_any_source_will_do_where_none_is_named(self) -> None:
        desk = Desk()
        desk.node("es", language_capabilities=languages(asr_languages=["es"], tts_languages=["zh"]))
        job = desk.submit(src="auto", tgt="zh", auto_langs=["auto"])
        assert job.key == Key(ANY, "zh", CORE_SERVICES)
        assert job.attempts

    def test_who_waited_for_both_ways_takes_one_when_the_last_such_node_is_gone(self) -> None:
        desk = Desk()
        desk.node("both", "en", "es", cap=1)
        desk.node("one", language_capabilities=languages(asr_languages=["en"], tts_languages=["es"]))
        asked = {"src": "auto", "lang_a": "en", "lang_b": "es"}
        busy, waiting = desk.submit(0, "s-1", **asked), desk.submit(0, "s-2", **asked)
        assert (busy.attempts[0].node_id, waiting.attempts) == ("both", [])
        moved = {action.attempt.node_id for action in only(Assign, desk.lose("both"))}
        assert moved == {"one"}
        assert waiting.attempts


def test_an_attempt_ends_early_enough_for_another_before_the_caller_gives_up() -> None:
    """Resolution 24."""
    desk = fleet_of("ab")
    job = desk.submit(answer_by=desk.now + 8.0)
    desk.wait(4.0)
    assert len(job.attempts) == 2
    assert job.attempts[1].deadline == pytest.approx(desk.now + 2.0)
    assert told(desk.wait(4.0)) == ["0:job_timeout"]


def test_nobody_waits_longer_than_the_caller() -> None:
    desk = Desk()
    desk.submit(answer_by=desk.now + 3.0)
    assert told(desk.wait(3.0)) == ["0:no_available_node"]


def test_a_node_finds_who_waits_for_it_among_many_others() -> None:
    desk = Desk(max_waiting_per_tenant=10_000)
    for number in range(200):
        desk.submit(0, f"w{number}", src=f"x{number}")
    waiting = desk.submit(0, "s-1")
    paired = desk.submit(0, "s-2", node_id="a")
    desk.node("b", "de", "fr")
    assert not waiting.attempts
    desk.node("a", cap=1)
    assert waiting.attempts
    assert sent(desk.answer(waiting.attempts[0]))
    assert paired.attempts
    late = desk.submit(1, "s-2", node_id="a")
    desk.answer(paired.attempts[0])
    assert late.attempts


def test_the_number_of_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linguad.core.index.MAX_KEYS", 3)
    desk = Desk()
    codes = ["en", "es", "zh", "de", "fr"]
    desk.node("a", *codes, cap=32)
    jobs = [desk.submit(0, f"s-{src}{tgt}", src=src, tgt=tgt) for src in codes for tgt in codes if src != tgt]
    assert all(job.attempts for job in jobs)
    assert desk.fleet.table.statistics()["keys"] <= 3
    desk.dispatch.heartbeat(heartbeat("a"), desk.now)
    assert desk.submit(1, "s-enes").attempts
