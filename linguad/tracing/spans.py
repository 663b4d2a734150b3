"""One utterance in one language as spans: its stages as `linguad trace` shows them, and its attempts.

utterance              from its last sound until its text left, or until it was given up
  cut queue send       one after the other, as in the waterfall
  node                 what the node needed, by its own word
    asr nmt tts        where it tells them
  reorder
  attempt              on other nodes, which came to nothing
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256

from msgspec import Struct

from linguad.core.timeline import Row
from linguad.wire.common import ServiceTimings

BEFORE_NODE, AFTER_NODE = ("cut", "queue", "send"), ("reorder",)
NOT_FAILED = frozenset({"ok", "empty", "merged", "superseded", "cancelled"})
"""Ends of attempts that nobody has to look into."""

Attribute = str | int | bool

_HEX = re.compile(r"[0-9a-fA-F]{32}")


class Ended(Struct, frozen=True):
    """An utterance that is over, with all that its spans need; no more than its row says (core/timeline)."""

    row: Row
    over_ms: float
    """When it was over, since its last sound."""
    timings: ServiceTimings | None
    """What its node told about its stages."""


class Span(Struct, frozen=True, kw_only=True):
    """One span; times in ms since the last sound of the utterance."""

    key: str
    """Its name within the utterance; "" for the utterance itself."""
    parent: str | None
    name: str
    start_ms: float
    end_ms: float
    attributes: dict[str, Attribute]
    problem: str | None = None
    """What went wrong, in a word."""


def trace_id(name: str) -> int:
    """The trace that a client's `trace_id` stands for, 128 bits, not 0.

    32 hexadecimal digits, a UUID too, are taken as they are; any other text always stands for the same trace.
    """
    digits = name.replace("-", "")
    if _HEX.fullmatch(digits) and (number := int(digits, 16)):
        return number
    return int.from_bytes(sha256(name.encode("utf-8", "replace")).digest()[:16]) or 1


def span_id(job_id: str, key: str) -> int:
    """The id of a span of a job, 64 bits, not 0; always the same."""
    return int.from_bytes(sha256(f"{job_id}/{key}".encode()).digest()[:8]) or 1


def spans_of(ended: Ended) -> list[Span]:
    """All spans of an utterance, parents first."""
    row = ended.row
    whole = Span(
        key="",
        parent=None,
        name="utterance",
        start_ms=0.0,
        end_ms=ended.over_ms,
        attributes=_attributes(row),
        problem=row.error,
    )
    return [whole, *_stages(ended), *_attempts(row)]


def _stages(ended: Ended) -> Iterator[Span]:
    row, at_ms = ended.row, 0.0
    for name in (*BEFORE_NODE, "node", *AFTER_NODE):
        long_ms = getattr(row.stages, f"{name}_ms")
        if long_ms is None:
            continue
        attributes: dict[str, Attribute] = {}
        if name == "node" and row.node_id:
            attributes["linguad.node_id"] = row.node_id
        if name == "cut":
            attributes = {"linguad.cut_reason": row.cut_reason, "linguad.held_ms": row.held_ms}
        yield _stage(name, "", name, at_ms, at_ms + long_ms, attributes)
        if name == "node" and ended.timings is not None:
            yield from _services(ended.timings, at_ms, at_ms + long_ms)
        at_ms += long_ms


def _services(timings: ServiceTimings, start_ms: float, end_ms: float) -> Iterator[Span]:
    """The stages inside a node, one after the other; a node cannot have worked longer than it had the job."""
    for name, long_ms in (("asr", timings.asr_ms), ("nmt", timings.nmt_ms), ("tts", timings.tts_ms)):
        if long_ms is not None:
            until_ms = min(end_ms, start_ms + max(0, long_ms))
            yield _stage(f"node/{name}", "node", name, start_ms, until_ms, {})
            start_ms = until_ms


def _stage(
    key: str, parent: str, name: str, start_ms: float, end_ms: float, attributes: dict[str, Attribute]
) -> Span:
    return Span(key=key, parent=parent, name=name, start_ms=start_ms, end_ms=end_ms, attributes=attributes)


def _attempts(row: Row) -> Iterator[Span]:
    for attempt in row.attempts:
        if attempt.end == "ok" or attempt.ended_ms is None:
            continue
        yield Span(
            key=f"attempt/{attempt.number}",
            parent="",
            name="attempt",
            start_ms=attempt.sent_ms,
            end_ms=attempt.ended_ms,
            attributes={
                "linguad.node_id": attempt.node_id,
                "linguad.attempt": attempt.number,
                "linguad.end": attempt.end or "",
            },
            problem=None if attempt.end in NOT_FAILED else attempt.end,
        )


def _attributes(row: Row) -> dict[str, Attribute]:
    known: dict[str, Attribute | None] = {
        "session_id": row.session_id,
        "utterance_index": row.index,
        "job_id": row.job_id,
        "trace_id": row.trace_id,
        "utterance_trace_id": row.utterance_trace_id,
        "turn_id": row.turn_id,
        "src_lang": row.src,
        "tgt_lang": row.tgt,
        "in_room": row.in_room,
        "audio_ms": row.duration_ms,
        "audio_bytes": row.bytes,
        "outcome": row.outcome,
        "node_id": row.node_id,
        "attempts": len(row.attempts),
        "late": row.late,
    }
    return {f"linguad.{name}": value for name, value in known.items() if value is not None}
