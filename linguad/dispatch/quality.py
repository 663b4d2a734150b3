"""How good results are by what nodes say of them: by node, by pair, in rooms and elsewhere (7.3)."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from linguad import metrics
from linguad.core.job import Job, Outcome

MAX_NODES, MAX_LEVELS, MAX_CODES = 100, 8, 40
"""Label values; what comes later is `other`."""

SAMPLES = 1_000
"""Latencies of the last results, of which percentiles are told."""

RANGES = ("0.0-0.2", "0.2-0.4", "0.4-0.6", "0.6-0.8", "0.8-1.0")
"""How sure a node was of the language it heard."""

MODES = ("room", "single")


class Quality:
    """Mutable state: what is told of the results of rooms and of single sessions."""

    def __init__(self) -> None:
        self._modes = {mode: _Mode() for mode in MODES}
        self._nodes = metrics.FewValues(MAX_NODES)
        self._pairs = metrics.FewValues()
        self._levels = metrics.FewValues(MAX_LEVELS)
        self._codes = metrics.FewValues(MAX_CODES)

    def count(self, job: Job, outcome: Outcome) -> None:
        """A job ended; only texts count."""
        result, attempt, request = outcome.result, outcome.attempt, job.request
        if result is None or attempt is None:
            return
        mode = self._modes["room" if request.room_id else "single"]
        mode.results += 1
        mode.latencies_s.append(outcome.received_at - request.last_audio_at)
        mode.reruns += bool(result.rerun_count)
        mode.bad += result.asr_quality_level == "bad"
        sure = result.extra.language_probability if result.extra is not None else None
        if sure is not None:
            mode.sure[min(len(RANGES) - 1, int(sure * len(RANGES)))] += 1
        if result.asr_quality_level is None and not result.reason_codes:
            return
        node, pair = self._nodes(attempt.node_id), self._pairs(f"{job.key.src}>{job.key.tgt}")
        level = self._levels(result.asr_quality_level or "none")
        metrics.child(metrics.QUALITY_BY_NODE, node, level).inc()
        metrics.child(metrics.QUALITY_BY_PAIR, pair, level).inc()
        for said in dict.fromkeys(result.reason_codes or ()):
            code = self._codes(said)
            metrics.child(metrics.REASONS_BY_NODE, node, code).inc()
            metrics.child(metrics.REASONS_BY_PAIR, pair, code).inc()

    def told(self) -> dict[str, Any]:
        """The `asr` object of `/api/v1/metrics`: all together, and each mode."""
        both = _Mode()
        for mode in self._modes.values():
            both.add(mode)
        by_mode = {name: mode.told() for name, mode in self._modes.items()}
        return both.told() | {"by_mode": by_mode}


class _Mode:
    def __init__(self) -> None:
        self.results = self.bad = self.reruns = 0
        self.latencies_s: deque[float] = deque(maxlen=SAMPLES)
        self.sure: Counter[int] = Counter()

    def add(self, other: _Mode) -> None:
        self.results += other.results
        self.bad += other.bad
        self.reruns += other.reruns
        self.latencies_s = deque([*self.latencies_s, *other.latencies_s], maxlen=2 * SAMPLES)
        self.sure.update(other.sure)

    def told(self) -> dict[str, Any]:
        ordered = sorted(self.latencies_s)
        return {
            "e2e_latency": {
                **{f"p{percent}_ms": _percentile_ms(ordered, percent) for percent in (50, 95, 99)},
                "count": len(ordered),
            },
            "lang_prob_distribution": [
                {"key": name, "count": self.sure[number]} for number, name in enumerate(RANGES)
            ],
            "bad_segment_rate": self.bad / self.results if self.results else 0.0,
            "rerun_trigger_rate": self.reruns / self.results if self.results else 0.0,
        }


def _percentile_ms(ordered: list[float], percent: int) -> float:
    if not ordered:
        return 0.0
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1000, 3)
