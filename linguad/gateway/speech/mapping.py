"""What goes wrong inside, as callers of the public API are told (gateway 8.4)."""

from __future__ import annotations

from typing import NamedTuple

from linguad.core.job import MissingReason
from linguad.errors import ErrorCode

RETRY_AFTER_S = 2
"""What callers are told to wait where nothing better is known: nodes come free within seconds."""

EMPTY = frozenset({MissingReason.SILENCE, MissingReason.MERGED})
"""Reasons that are no failures: there was nothing to say."""


class Failure(NamedTuple):
    """A failure in the words of the public API."""

    status: int
    """Of HTTP."""
    code: str
    retryable: bool
    message: str


NO_CAPACITY = Failure(503, "no_capacity", True, "No node that does this is free; try again soon.")
MODEL_UNAVAILABLE = Failure(
    503, "model_unavailable", True, "A model that this needs is not ready; try again in a minute."
)
TIMEOUT = Failure(
    504, "translation_timeout", True, "The translation took too long; try again, or send less audio."
)
UNAVAILABLE = Failure(503, "upstream_unavailable", True, "The service is not complete now; try again soon.")
SESSION_LOST = Failure(502, "upstream_session_lost", True, "The session was lost; send the audio again.")
UNSUPPORTED_FEATURE = Failure(
    422, "unsupported_feature", False, "No node has the features that are asked for; leave some out."
)
PROTOCOL_ERROR = Failure(
    502, "upstream_protocol_error", False, "The audio could not be handed on; check its format."
)
FAILED = Failure(502, "translation_failed", True, "The translation failed; try again.")

_BY_ERROR = {
    ErrorCode.NO_AVAILABLE_NODE: NO_CAPACITY,
    ErrorCode.NODE_UNAVAILABLE: NO_CAPACITY,
    ErrorCode.NODE_OVERLOADED: NO_CAPACITY,
    ErrorCode.MODEL_NOT_AVAILABLE: MODEL_UNAVAILABLE,
    ErrorCode.MODEL_LOAD_FAILED: MODEL_UNAVAILABLE,
    ErrorCode.MODEL_VERIFY_FAILED: MODEL_UNAVAILABLE,
    ErrorCode.MODEL_CORRUPTED: MODEL_UNAVAILABLE,
    ErrorCode.JOB_TIMEOUT: TIMEOUT,
    ErrorCode.NMT_TIMEOUT: TIMEOUT,
    ErrorCode.TTS_TIMEOUT: TIMEOUT,
    ErrorCode.SCHEDULER_DEPENDENCY_DOWN: UNAVAILABLE,
    ErrorCode.INVALID_SESSION: SESSION_LOST,
    ErrorCode.SESSION_CLOSED: SESSION_LOST,
    ErrorCode.WS_DISCONNECTED: SESSION_LOST,
    ErrorCode.UNSUPPORTED_FEATURE: UNSUPPORTED_FEATURE,
    ErrorCode.INVALID_MESSAGE: PROTOCOL_ERROR,
}
_BY_REASON = {
    MissingReason.NO_NODE: NO_CAPACITY,
    MissingReason.OVERLOADED: NO_CAPACITY,
    MissingReason.NODE_LOST: NO_CAPACITY,
    MissingReason.JOB_TIMEOUT: TIMEOUT,
    MissingReason.CANCELLED: SESSION_LOST,
}


def failure_of(error: str | None, reason: str | None = None) -> Failure:
    """What a wire code amounts to, or without one the reason why there is no result."""
    if error is not None:
        return next((known for code, known in _BY_ERROR.items() if code == error), FAILED)
    return next((known for why, known in _BY_REASON.items() if why == reason), FAILED)
