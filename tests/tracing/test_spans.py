"""Utterances as spans: ids of traces, stages in their order, times that nodes make up, attempts, problems."""

from __future__ import annotations

import uuid

from core.support import Desk
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from linguad import metrics
from linguad.config.tracing import Tracing as Settings
from linguad.core.timeline import of_conversation, rows
from linguad.tracing import export
from linguad.tracing.spans import Ended, Span, span_id, spans_of, trace_id
from linguad.wire.common import ServiceTimings


@given(st.integers(1, 2**128 - 1))
def test_ids_that_are_hexadecimal_are_kept(number: int) -> None:
    assert trace_id(f"{number:032x}") == trace_id(f"{number:032X}") == number
    assert trace_id(str(uuid.UUID(int=number))) == number


@given(st.text() | st.just("0" * 32))
def test_every_other_name_has_a_trace_of_its_own(name: str) -> None:
    assert 0 < trace_id(name) < 2**128
    assert trace_id(name) == trace_id(name)
    assert trace_id(name) != trace_id(f"{name} ")


def traced(desk: Desk, timings: ServiceTimings | None = None, over_ms: float = 5000.0) -> dict[str, Span]:
    (row,) = rows(of_conversation(desk.dispatch.jobs, [], "s-1"), lambda now: round(now * 1000))
    found = spans_of(Ended(row, over_ms, timings))
    assert len({span_id("job", span.key) for span in found}) == len(found)
    return {span.key: span for span in found}


def answered(desk: Desk) -> None:
    """One utterance: 100 ms until it is cut, 50 until it is sent, 1000 with the node, 900 of them work."""
    desk.node("a", cap=20)
    job = desk.submit(0, seconds=1.0)
    attempt = job.attempts[0]
    said = job.request.last_audio_at
    job.request = replace(job.request, cut_at=said + 0.1)
    attempt.sent_at = said + 0.15
    desk.now = said + 1.15
    desk.answer(attempt)
    job.node_s, job.delivered_at = 0.9, said + 1.2


def test_stages_follow_each_other() -> None:
    desk = Desk()
    answered(desk)
    spans = traced(desk, ServiceTimings(asr_ms=400, nmt_ms=100, tts_ms=300))
    times = {key: (round(span.start_ms), round(span.end_ms)) for key, span in spans.items()}
    assert times == {
        "": (0, 5000),
        "cut": (0, 100),
        "queue": (100, 150),
        "send": (150, 250),
        "node": (250, 1150),
        "node/asr": (250, 650),
        "node/nmt": (650, 750),
        "node/tts": (750, 1050),
        "reorder": (1150, 1200),
    }
    assert all(span.problem is None for span in spans.values())


@given(st.lists(st.none() | st.integers(0, 2**53), min_size=3, max_size=3))
def test_nodes_cannot_have_worked_longer_than_they_had_the_job(told: list[int | None]) -> None:
    desk = Desk()
    answered(desk)
    asr, nmt, tts = told
    spans = traced(desk, ServiceTimings(asr_ms=asr, nmt_ms=nmt, tts_ms=tts))
    node = spans["node"]
    at_ms = node.start_ms
    for name, said in (("asr", asr), ("nmt", nmt), ("tts", tts)):
        span = spans.get(f"node/{name}")
        assert (span is None) == (said is None)
        if span is not None:
            assert at_ms == span.start_ms <= span.end_ms <= node.end_ms
            at_ms = span.end_ms


def test_what_waits_is_bounded_and_nothing_waits_for_it() -> None:
    desk = Desk()
    answered(desk)
    (job,) = desk.dispatch.jobs.values()
    tracing = export.Tracing(Settings(), "", lambda now: round(now * 1000))
    dropped = metrics.TRACED.labels("dropped")
    before = dropped._value.get()
    for _ in range(export.MAX_WAITING + 3):
        tracing.ended(job, None)
    assert dropped._value.get() - before == 3


def test_a_share_of_the_traces_is_chosen_by_their_ids() -> None:
    desk = Desk()
    answered(desk)
    (job,) = desk.dispatch.jobs.values()
    some = export.Tracing(Settings(sample_ratio=0.25), "", lambda now: 0)
    none = export.Tracing(Settings(sample_ratio=0), "", lambda now: 0)
    for low in (0, 2**62 - 1, 2**62, 2**64 - 1):
        job.request = replace(job.request, trace_id=f"{2**64 + low:032x}")
        some.ended(job, None)
        none.ended(job, None)
    assert (some._queue.qsize(), none._queue.qsize()) == (2, 0)
