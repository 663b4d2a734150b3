"""What is recorded, charged and credited, whatever becomes of jobs (resolution 42)."""

from __future__ import annotations

from typing import Any

import pytest
from core.support import Desk
from hypothesis import given
from hypothesis import strategies as st

from linguad.core.actions import Action, AttemptEnded, Deliver, SessionOver
from linguad.core.clock import Clock
from linguad.core.job import Job
from linguad.core.metering import Metering, Usage
from linguad.core.utterance import CutReason
from linguad.wire.common import ExtraResult, ServiceTimings

SLICE = CutReason.MAX_DURATION


class Shop:
    """A dispatcher whose actions are metered."""

    def __init__(self, *, credit_superseded: bool = False, **rules: Any) -> None:
        self.desk = Desk(**rules)
        self.metering = Metering(Clock(1000.0), credit_superseded=credit_superseded)
        self.rows: list[Usage] = []
        self.delivered: dict[str, int] = {}
        """Length of the utterances whose text was delivered, by name."""

    def meter(self, actions: list[Action]) -> list[Action]:
        for action in actions:
            match action:
                case AttemptEnded() if row := self.metering.ended(action.job, action.attempt):
                    self.rows.append(row)
                case Deliver():
                    self.rows += self.metering.delivered(action.job, action.outcome)
                    if action.outcome.result is not None:
                        self.delivered[action.job.request.utterance_trace] = round(action.job.seconds * 1000)
                case SessionOver():
                    self.metering.session_ended(action.session_id)
        return actions

    def submit(self, index: int = 0, session: str = "s-1", *, seconds: float = 1.0, **members: Any) -> Job:
        named = {"utterance_trace": f"{session}/{index}"} | members
        job, actions = self.desk.submitted(index, session, seconds=seconds, **named)
        self.meter(actions)
        return job

    def answer(self, job: Job, kind: str = "complete", attempt: int = -1, **members: Any) -> None:
        self.meter(self.desk.answer(job.attempts[attempt], kind, **members))

    @property
    def outcomes(self) -> list[tuple[str, int, int]]:
        """Outcome, charged ms and credited ms of every row."""
        return [(row.outcome, row.charged_ms, row.credited_ms) for row in self.rows]

    @property
    def charged(self) -> int:
        return sum(row.charged_ms for row in self.rows)


def test_one_row_of_an_answer() -> None:
    shop = Shop()
    shop.desk.node("a")
    job = shop.submit(3, seconds=2.5, tenant="t-1", key_id="KEY1")
    shop.desk.now += 1.0
    timings = ExtraResult(service_timings=ServiceTimings(asr_ms=7, nmt_ms=5, tts_ms=3))
    shop.answer(job, processing_time_ms=16.4, extra=timings, tts_audio="AAAA" * 800, tts_format="pcm16")
    assert shop.rows == [
        Usage(
            id="job-1",
            tenant="t-1",
            key="KEY1",
            session="s-1",
            job="job-1",
            attempt=1,
            node="a",
            owner="a",
            utterance=3,
            outcome="ok",
            audio_ms=2500,
            charged_ms=2500,
            credited_ms=2500,
            utterances=1,
            asr_ms=7,
            nmt_ms=5,
            tts_ms=3,
            total_ms=16,
            chars_asr=5,
            chars_translated=4,
            audio_ms_out=75,
            finished_at=1101.0,
        )
    ]


@pytest.mark.parametrize("kind", ["empty", "failed"])
def test_silence_and_failures_are_free(kind: str) -> None:
    shop = Shop(failover_max_attempts=0)
    shop.desk.node("a")
    shop.answer(shop.submit(), kind)
    assert shop.outcomes == [(kind, 0, 1000 if kind == "empty" else 0)]


def test_a_retry_is_charged_once() -> None:
    shop = Shop()
    shop.desk.node("a")
    job = shop.submit()
    shop.desk.node("b")
    shop.meter(shop.desk.lose("a"))
    shop.answer(job)
    assert shop.outcomes == [("node_lost", 0, 0), ("ok", 1000, 1000)]


def test_a_late_answer_is_a_row_of_its_own() -> None:
    shop = Shop()
    shop.desk.node("a")
    job = shop.submit()
    shop.desk.node("b")
    shop.meter(shop.desk.lose("a"))
    shop.desk.node("a")
    shop.answer(job, attempt=0)
    assert shop.outcomes == [("node_lost", 0, 0), ("superseded", 0, 0), ("late", 1000, 1000)]
    assert [row.id for row in shop.rows] == ["job-1", "job-1~r2", "job-1~late"]


def test_an_answer_after_silence_is_credited_once() -> None:
    shop = Shop()
    shop.desk.node("a")
    job = shop.submit()
    shop.answer(job, "empty")
    shop.answer(job)
    assert shop.outcomes == [("empty", 0, 1000), ("late", 1000, 0)]


def test_who_came_second_is_credited_by_setting() -> None:
    shop = Shop(credit_superseded=True, hedge_percent=100)
    shop.desk.node("a")
    shop.desk.node("b")
    job = shop.submit()
    shop.meter(shop.desk.wait(60.0))
    shop.answer(job, attempt=1)
    assert sorted(shop.outcomes) == [("ok", 1000, 1000), ("superseded", 0, 1000)]


def test_several_languages_of_an_utterance_are_charged_once() -> None:
    shop = Shop()
    shop.desk.node("a", "en", "es", "fr")
    jobs = [shop.submit(tgt=tgt, lane=f"s-1#{tgt}", room_id="r") for tgt in ("es", "fr")]
    for job in jobs:
        shop.answer(job)
    assert shop.outcomes == [("ok", 1000, 1000), ("ok", 0, 1000)]


def test_the_same_sound_sent_again_is_charged_once() -> None:
    shop = Shop()
    shop.desk.node("a")
    for trace in ("x", "y"):
        shop.answer(shop.submit(sound=77, utterance_trace=trace))
    assert shop.charged == 1000


def test_slices_are_charged_with_the_answer_they_are_in() -> None:
    shop = Shop()
    shop.desk.node("a")
    shop.submit(0, seconds=10.0, reason=SLICE, turn_id="t")
    second = shop.submit(1, seconds=10.0, reason=SLICE, turn_id="t")
    shop.answer(second, "no_text")
    closing = shop.submit(2, seconds=3.0, turn_id="t")
    shop.answer(closing)
    assert shop.outcomes == [("merged", 0, 10_000), ("merged", 0, 10_000), ("ok", 23_000, 3000)]
    assert shop.rows[-1].utterances == 3


def test_a_slice_without_a_word_is_part_of_its_turn() -> None:
    """Its session is told that it is merged, for its node may have kept the sound."""
    shop = Shop()
    shop.desk.node("a")
    shop.answer(shop.submit(0, seconds=10.0, reason=SLICE, turn_id="t"), "empty")
    shop.answer(shop.submit(1, seconds=2.0, turn_id="t"))
    assert shop.outcomes == [("empty", 0, 10_000), ("ok", 12_000, 2000)]


def test_a_slice_that_another_node_had_is_not_in_the_answer() -> None:
    shop = Shop()
    shop.desk.node("a")
    shop.answer(shop.submit(0, seconds=10.0, reason=SLICE, turn_id="t"), "empty")
    closing = shop.submit(1, seconds=2.0, turn_id="t")
    shop.meter(shop.desk.lose("a"))
    shop.meter(shop.desk.node("a"))
    assert len(closing.attempts) == 2
    shop.answer(closing)
    assert shop.outcomes[-1] == ("ok", 2000, 2000)


def test_slices_of_a_turn_that_fails_are_free() -> None:
    shop = Shop(failover_max_attempts=0)
    shop.desk.node("a", cap=8)
    shop.submit(0, seconds=10.0, reason=SLICE, turn_id="t")
    shop.answer(shop.submit(1, turn_id="t"), "failed")
    shop.answer(shop.submit(2))
    assert shop.charged == 1000


def test_the_rest_of_a_turn_whose_text_was_delivered() -> None:
    shop = Shop()
    shop.desk.node("a")
    shop.answer(shop.submit(0, seconds=10.0, reason=SLICE, turn_id="t"))
    shop.answer(shop.submit(1, seconds=2.0, turn_id="t"), "no_text")
    assert shop.outcomes == [("ok", 10_000, 10_000), ("merged", 2000, 2000)]


def test_what_a_node_joins_to_the_next_turn() -> None:
    shop = Shop()
    shop.desk.node("a")
    shop.answer(shop.submit(0, seconds=2.0), "no_text")
    shop.answer(shop.submit(1, seconds=3.0))
    assert shop.outcomes == [("merged", 0, 2000), ("ok", 5000, 3000)]


def test_what_goes_on_alone_is_charged_alone() -> None:
    shop = Shop()
    shop.desk.node("a")
    slice_ = shop.submit(0, seconds=10.0, reason=SLICE, turn_id="t")
    shop.desk.beat("a", installed_services=[])
    shop.desk.node("b")
    shop.answer(shop.submit(1, turn_id="t"))
    shop.answer(slice_)
    assert shop.charged == 11_000


def test_what_goes_on_alone_and_fails_is_free_alone() -> None:
    shop = Shop(failover_max_attempts=0)
    shop.desk.node("a")
    shop.submit(0, seconds=10.0, reason=SLICE, turn_id="t")
    shop.desk.beat("a", installed_services=[])
    shop.desk.node("b")
    shop.submit(1, seconds=10.0, reason=SLICE, turn_id="t")
    shop.answer(shop.submit(2, turn_id="t"))
    assert shop.charged == 11_000


def test_nothing_is_known_of_a_session_that_is_over() -> None:
    shop = Shop()
    shop.desk.node("a")
    shop.submit()
    shop.meter([*shop.desk.dispatch.session_ended("s-1", shop.desk.now), SessionOver("s-1")])
    assert shop.outcomes == [("cancelled", 0, 0)]
    assert len(shop.metering) == 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(0, 2), st.integers(0, 4)),
        st.tuples(
            st.just("answer"),
            st.sampled_from(["complete", "complete", "failed", "empty", "late"]),
            st.integers(0, 30),
        ),
        st.tuples(st.sampled_from(["lose", "join"]), st.sampled_from("abc"), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 80), st.just(0)),
        st.tuples(st.just("end"), st.integers(0, 2), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS, st.booleans())
def test_charged_is_what_was_delivered(steps: list[tuple[Any, ...]], hedges: bool) -> None:
    """Whatever sequence of retries, hedges, late answers and lost nodes: each delivered utterance once."""
    shop = Shop(hedge_percent=100.0 if hedges else 0.0)
    desk, jobs, index = shop.desk, list[Job](), 0
    for what, one, other in steps:
        if what == "submit":
            jobs.append(shop.submit(index, f"s-{one}", seconds=1.0 + other))
            index += 1
        elif what == "answer" and jobs:
            job = jobs[other % len(jobs)]
            for attempt in job.attempts[:1] if one == "late" else job.attempts[-1:]:
                kind = "complete" if one == "late" else one
                shop.meter(desk.answer(attempt, kind))
        elif what == "lose" and one in desk.connections:
            shop.meter(desk.lose(one))
        elif what == "join" and one not in desk.connections:
            shop.meter(desk.node(one))
        elif what == "wait":
            shop.meter(desk.wait(float(one)))
        elif what == "end":
            shop.meter([*desk.dispatch.session_ended(f"s-{one}", desk.now), SessionOver(f"s-{one}")])
    assert shop.charged == sum(shop.delivered.values())
    assert len({row.id for row in shop.rows}) == len(shop.rows)
    assert sum(row.utterances for row in shop.rows) == len(shop.delivered)
    ended = sum(not attempt.open for job in jobs for attempt in job.attempts)
    assert sum(row.outcome != "late" for row in shop.rows) == ended
