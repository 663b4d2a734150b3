"""The daemon as those see it who look at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from linguad.config import Config
from linguad.core.coverage import Served
from linguad.core.dispatch import Dispatch
from linguad.core.session import Session
from linguad.ops.services import Services


class Seen(NamedTuple):
    """A session of this instance."""

    session: Session
    attached: bool
    """Whether it has a connection."""
    room_id: str
    """The room it is in, or ""."""


class Instance(Protocol):
    """What is there, and how it is doing; everything at once and from memory."""

    @property
    def config(self) -> Config:
        """The settings in force, which a reload exchanges."""
        ...

    @property
    def dispatch(self) -> Dispatch:
        """Nodes and jobs."""
        ...

    @property
    def services(self) -> Services:
        """What a hub offers to nodes."""
        ...

    @property
    def outcomes(self) -> Mapping[str, int]:
        """Jobs that ended since the start, by what they came to."""
        ...

    @property
    def draining(self) -> bool:
        """It takes no new work."""
        ...

    @property
    def buffered_bytes(self) -> int:
        """Bytes held for connections and jobs."""
        ...

    def sessions_seen(self) -> Sequence[Seen]:
        """Every session."""
        ...

    def session_counts(self) -> tuple[int, int]:
        """Sessions with a connection, and those that wait for theirs to come back."""
        ...

    def languages(self) -> list[Served]:
        """The pairs of languages that are served."""
        ...

    def result_quality(self) -> Mapping[str, Any]:
        """How good results are, as the `asr` object of `/api/v1/metrics`."""
        ...

    def slots_asked(self) -> tuple[int, int]:
        """How often a slot was taken for a job, and how often none was free."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """Plain facts, as `/ready` tells them."""
        ...

    def standing(self) -> Mapping[str, Any]:
        """Its name in the cluster (None alone), the others that take work, how long ending may take, s."""
        ...

    def not_ready(self) -> Sequence[str]:
        """Why no work should be sent here."""
        ...

    def degraded(self) -> Sequence[str]:
        """What is missing although work is done."""
        ...

    def now(self) -> float:
        """The clock, monotonic s."""
        ...

    def epoch_ms(self, now: float) -> int:
        """Unix time in ms of a moment."""
        ...
