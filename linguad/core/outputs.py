"""What a session wants done; the shell does it in order."""

from __future__ import annotations

from msgspec import Struct

from linguad.core.job import Job, JobRequest
from linguad.core.room import RoomOutput
from linguad.core.utterance import Audio
from linguad.wire.common import ServiceTimings
from linguad.wire.session import ServerMessage, TimeBreakdown


class Send(Struct, frozen=True):
    """Send a message to the client; an optional one may be dropped for a slow reader."""

    message: ServerMessage
    optional: bool = False


class Submit(Struct, frozen=True):
    """Have an utterance translated."""

    request: JobRequest
    audio: Audio


class Delivered(Struct, frozen=True):
    """An utterance left as a text, for whomever; for metrics."""

    job: Job
    times: TimeBreakdown
    timings: ServiceTimings | None
    """What its node told about its stages."""


class Ended(Struct, frozen=True):
    """The session is over: cancel its jobs and forget it."""


class LetGo(Struct, frozen=True):
    """The client has ended the session; it goes on without a connection, for others wait for its results."""


class Check(Struct, frozen=True):
    """The languages that are to be served have changed: see whether nodes are there."""


Output = Send | Submit | Delivered | RoomOutput | Check | LetGo | Ended
