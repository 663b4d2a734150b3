"""Moments as texts, where a message wants them so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(epoch_ms: int) -> str:
    """A moment in UTC to the millisecond, `2026-02-01T08:00:00.125Z`; the clock says a year up to 9999."""
    moment = _EPOCH + timedelta(milliseconds=epoch_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def told(moment: float | None) -> str | None:
    """The same of Unix seconds; None stays None, for what has not happened."""
    return None if moment is None else rfc3339(int(moment * 1000))
