"""Sends spans to an OpenTelemetry collector, from a thread of its own with a bounded queue.

The loop only writes down what an utterance came to. What the collector does not take in time is dropped and
counted: tracing never holds up a translation, nor the end of the process for longer than some seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Thread
from time import monotonic

import trio
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from linguad import __version__, log, metrics
from linguad.config.tracing import Tracing as Settings
from linguad.core.job import Job
from linguad.core.timeline import rows
from linguad.tracing.spans import Ended, Span, span_id, spans_of, trace_id
from linguad.wire.common import ServiceTimings

MAX_WAITING = 2048
"""Utterances that wait to be sent, some MiB; more are dropped."""

BATCH = 128
"""Utterances in one request, about a thousand spans."""

GATHER_SECONDS = 1.0
"""How long a request waits for more utterances."""

EXPORT_SECONDS = 10.0
"""Longest time for a request with its repetitions; then its spans are dropped."""

CLOSE_SECONDS = 2.0
"""How long the end of the process waits for what is still to be sent."""

logger = log.get(__name__)


class Tracing:
    """Mutable state: what waits to be sent, and whether the collector took the last batch."""

    def __init__(self, settings: Settings, instance_id: str, epoch_ms: Callable[[float], int]) -> None:
        """`epoch_ms` gives Unix time; `instance_id` may be ""."""
        self._epoch_ms = epoch_ms
        # The same traces as other services choose that go by OpenTelemetry's TraceIdRatioBased.
        self._below = round(settings.sample_ratio * 2**64)
        self._exporter: SpanExporter = OTLPSpanExporter(endpoint=settings.endpoint, timeout=EXPORT_SECONDS)
        self._resource = Resource.create(
            {"service.name": "linguad", "service.version": __version__}
            | ({"service.instance.id": instance_id} if instance_id else {})
        )
        self._scope = InstrumentationScope("linguad", __version__)
        self._queue: Queue[Ended | None] = Queue(MAX_WAITING)
        self._reason = _LastReason()
        self._well = True
        self._thread = Thread(target=self._run, name="tracing", daemon=True)

    def start(self) -> None:
        """Send from now on."""
        # The exporter logs every failed try; `tracing_failed` says it once.
        logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter").addFilter(self._reason)
        self._thread.start()

    async def close(self) -> None:
        """Send what waits, as far as that goes in CLOSE_SECONDS, and end."""
        await trio.to_thread.run_sync(self._close)

    def ended(self, job: Job, timings: ServiceTimings | None) -> None:
        """An utterance is over in one language. For the loop: it never waits."""
        request = job.request
        if trace_id(request.trace_id) % 2**64 >= self._below:
            return
        (row,) = rows([job], self._epoch_ms)
        over_ms = row.stages.total_ms
        if over_ms is None:
            over_ms = max(0.0, (job.finished_at - request.last_audio_at) * 1000)
        try:
            self._queue.put_nowait(Ended(row, over_ms, timings))
        except Full:
            metrics.TRACED.labels("dropped").inc()

    def _close(self) -> None:
        with suppress(Full):
            self._queue.put(None, timeout=CLOSE_SECONDS)
        self._thread.join(CLOSE_SECONDS)
        # ends what it waits for between two tries
        self._exporter.shutdown()

    def _run(self) -> None:
        going_on = True
        while going_on:
            batch, going_on = self._gathered()
            if batch:
                self._export(batch)

    def _gathered(self) -> tuple[list[Ended], bool]:
        """What is to be sent together, and whether more may come."""
        batch: list[Ended] = []
        due = None
        while len(batch) < BATCH:
            try:
                ended = self._queue.get(timeout=None if due is None else max(0.0, due - monotonic()))
            except Empty:
                break
            if ended is None:
                return batch, False
            batch.append(ended)
            due = due or monotonic() + GATHER_SECONDS
        return batch, True

    def _export(self, batch: list[Ended]) -> None:
        self._reason.text = ""
        try:
            spans = [span for ended in batch for span in self._spans(ended)]
            well = self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception as error:  # noqa: BLE001 - whatever is wrong there, the next batch may be sent
            well, self._reason.text = False, f"{type(error).__name__}: {error}"
        metrics.TRACED.labels("exported" if well else "failed").inc(len(batch))
        if self._well and not well:
            logger.warning("tracing_failed", reason=self._reason.text, utterances=len(batch))
        elif well and not self._well:
            logger.info("tracing_works_again")
        self._well = well

    def _spans(self, ended: Ended) -> Iterator[ReadableSpan]:
        row = ended.row
        trace = trace_id(row.trace_id)

        def context(key: str) -> SpanContext:
            flags = TraceFlags(TraceFlags.SAMPLED)
            return SpanContext(trace, span_id(row.job_id, key), is_remote=False, trace_flags=flags)

        def at_ns(since_ms: float) -> int:
            return row.last_audio_at_ms * 1_000_000 + round(since_ms * 1_000_000)

        for span in spans_of(ended):
            yield ReadableSpan(
                name=span.name,
                context=context(span.key),
                parent=None if span.parent is None else context(span.parent),
                resource=self._resource,
                attributes=span.attributes,
                kind=SpanKind.SERVER if span.parent is None else SpanKind.INTERNAL,
                status=_status(span),
                start_time=at_ns(span.start_ms),
                end_time=at_ns(span.end_ms),
                instrumentation_scope=self._scope,
            )


def _status(span: Span) -> Status:
    return Status(StatusCode.UNSET) if span.problem is None else Status(StatusCode.ERROR, span.problem)


class _LastReason(logging.Filter):
    """Keeps the last message of a logger, and lets none through."""

    text = ""

    def filter(self, record: logging.LogRecord) -> bool:
        self.text = record.getMessage()
        return False
