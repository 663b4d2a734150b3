"""What went wrong inside, as callers of the public API are told: REST and streams alike (gateway 8.4)."""

from __future__ import annotations

from msgspec import Struct

from linguad.core.job import MissingReason
from linguad.errors import ErrorCode
from linguad.web.problems import Problem


class Trouble(Struct, frozen=True):
    """A public error: stable code, HTTP status, whether the same may succeed later, and a safe sentence."""

    status: int
    code: str
    retryable: bool
    message: str

    def problem(self) -> Problem:
        """The same as the answer to a request."""
        headers = {"Retry-After": "1"} if self.status == 503 else None
        return Problem(self.status, self.code, self.message, retryable=self.retryable, headers=headers)


NO_CAPACITY = Trouble(503, "no_capacity", True, "No compute node is free right now; try again shortly.")
MODEL_UNAVAILABLE = Trouble(
    503, "model_unavailable", True, "A model that this needs is not ready; try again shortly."
)
TIMEOUT = Trouble(504, "translation_timeout", True, "The translation took too long; try again.")
UNAVAILABLE = Trouble(
    503, "upstream_unavailable", True, "The service is stopping or not complete; try again shortly."
)
SESSION_LOST = Trouble(
    502, "upstream_session_lost", True, "The translation session was lost; begin another one."
)
UNSUPPORTED = Trouble(
    422, "unsupported_feature", False, "A feature that was asked for is not supported; leave it out."
)
PROTOCOL = Trouble(
    502, "upstream_protocol_error", False, "The audio or its settings could not be used; check their format."
)
FAILED = Trouble(502, "translation_failed", True, "The translation failed; try again.")
CANCELLED = Trouble(503, "cancelled", True, "The session ended before this was translated; send it again.")

_BY_CODE: dict[str, Trouble] = {
    **dict.fromkeys(
        (ErrorCode.NO_AVAILABLE_NODE, ErrorCode.NODE_UNAVAILABLE, ErrorCode.NODE_OVERLOADED), NO_CAPACITY
    ),
    **dict.fromkeys(
        (
            ErrorCode.MODEL_NOT_AVAILABLE,
            ErrorCode.MODEL_LOAD_FAILED,
            ErrorCode.MODEL_VERIFY_FAILED,
            ErrorCode.MODEL_CORRUPTED,
        ),
        MODEL_UNAVAILABLE,
    ),
    **dict.fromkeys((ErrorCode.JOB_TIMEOUT, ErrorCode.NMT_TIMEOUT, ErrorCode.TTS_TIMEOUT), TIMEOUT),
    ErrorCode.SCHEDULER_DEPENDENCY_DOWN: UNAVAILABLE,
    **dict.fromkeys(
        (ErrorCode.INVALID_SESSION, ErrorCode.SESSION_CLOSED, ErrorCode.WS_DISCONNECTED), SESSION_LOST
    ),
    ErrorCode.UNSUPPORTED_FEATURE: UNSUPPORTED,
    ErrorCode.INVALID_MESSAGE: PROTOCOL,
}
"""All others are FAILED."""

_BY_REASON: dict[str, Trouble | None] = {
    MissingReason.SILENCE: None,
    MissingReason.MERGED: None,
    MissingReason.GAP_TIMEOUT: None,
    MissingReason.OVERFLOW: None,
    MissingReason.JOB_FAILED: FAILED,
    MissingReason.JOB_TIMEOUT: TIMEOUT,
    MissingReason.NO_NODE: NO_CAPACITY,
    MissingReason.OVERLOADED: NO_CAPACITY,
    MissingReason.NODE_LOST: FAILED,
    MissingReason.CANCELLED: CANCELLED,
}


def trouble_of(code: str | None) -> Trouble:
    """What an error code of the core means to a caller."""
    return _BY_CODE.get(code or "", FAILED)


def trouble_of_missing(reason: str) -> Trouble | None:
    """What it means that an utterance has no result; None where there was nothing to say (resolution 19)."""
    return _BY_REASON.get(reason, FAILED)
