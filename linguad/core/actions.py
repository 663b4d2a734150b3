"""What the dispatch core wants done; the engine performs these without awaiting."""

from __future__ import annotations

from msgspec import Struct

from linguad.core.capability import Probe
from linguad.core.failure import UNKNOWN
from linguad.core.job import Attempt, Job, Outcome
from linguad.core.services import Mark
from linguad.wire.node import JobAssign, JobCancel


class Assign(Struct, frozen=True):
    """Send an attempt to its node."""

    job: Job
    attempt: Attempt
    message: JobAssign


class NobodyFree(Struct, frozen=True):
    """A job has to wait for a node; told once for each time it begins to wait."""

    job: Job
    refusing: tuple[Probe, ...]
    """The pools that were asked, in order."""


class Cancel(Struct, frozen=True):
    """Tell a node to stop working on an attempt."""

    node_id: str
    message: JobCancel


class Progress(Struct, frozen=True):
    """Tell the speaker how a job is doing; `event` is a `ui_event` name (session-protocol 2.4.8)."""

    job: Job
    event: str


class Partial(Struct, frozen=True):
    """Tell the speaker what was recognised so far."""

    job: Job
    text: str
    is_final: bool


class Deliver(Struct, frozen=True):
    """A job ended, or got its text after all; its session gets the outcome."""

    job: Job
    outcome: Outcome


class AttemptEnded(Struct, frozen=True):
    """An attempt ended; for logs, metrics and accounts."""

    job: Job
    attempt: Attempt


class SessionOver(Struct, frozen=True):
    """Nothing more comes of a session; what it used can be settled."""

    session_id: str


class AudioReleased(Struct, frozen=True):
    """A job let go of its audio: so many bytes of memory are free again."""

    size: int


class Dropped(Struct, frozen=True):
    """A node's answer fits nothing and was dropped; `why` is a metric label."""

    node_id: str
    wire_job_id: str
    why: str


class ServiceMissing(Struct, frozen=True):
    """A node says it lacks a service; if the mark holds, it gets no jobs for it for a while."""

    node_id: str
    service_id: str
    mark: Mark = Mark.HOLDS
    reason: str = UNKNOWN
    """A word of the node's: `not_installed`, `downloading`, ..."""


class Forgiven(Struct, frozen=True):
    """A failure that does not count against its node, because it may be our own; `why` is a metric label."""

    node_id: str
    why: str


class StoodStill(Struct, frozen=True):
    """Our own process did not run for so many seconds; deadlines that passed meanwhile got a little more."""

    seconds: float


Action = (
    Assign
    | NobodyFree
    | Cancel
    | Progress
    | Partial
    | Deliver
    | AttemptEnded
    | SessionOver
    | AudioReleased
    | Dropped
    | ServiceMissing
    | Forgiven
    | StoodStill
)
