"""What a failed attempt means: try another node or not, and is the node to blame (node-protocol 6.6)."""

from __future__ import annotations

from msgspec import Struct

from linguad.errors import ErrorCode
from linguad.wire.node import JobError


class Verdict(Struct, frozen=True):
    """`retry` on another node, `blame` counts against the node's health, `same_node` may be asked again."""

    retry: bool
    blame: bool
    same_node: bool = False


PERMANENT = Verdict(retry=False, blame=False)
NODE_FAULT = Verdict(retry=True, blame=True)
BLAMELESS = Verdict(retry=True, blame=False)
ID_REUSE = Verdict(retry=True, blame=False, same_node=True)

UNKNOWN = "unknown"
MAX_REASON_CHARS = 64

_PERMANENT_PREFIXES = (
    "SEM_REPAIR_UNSUPPORTED_LANG",
    "LID_INVALID_CANDIDATES",
    "ASR_STEP_INVALID_LANG_CONTRACT",
    "Unsupported audio format",
)
_REUSE_PREFIXES = ("DUPLICATE_JOB_ID", "DUPLICATE_UTTERANCE_INDEX")


def judge(error: JobError | None) -> Verdict:
    """The verdict on `success=false`; an answer without an error object is the node's fault."""
    if error is None:
        return NODE_FAULT
    if error.code == ErrorCode.MODEL_NOT_AVAILABLE:
        return BLAMELESS
    if error.code != ErrorCode.PROCESSING_ERROR:
        return NODE_FAULT
    if error.message.startswith(_REUSE_PREFIXES):
        return ID_REUSE
    if error.message.startswith(_PERMANENT_PREFIXES) or "Opus" in error.message:
        return PERMANENT
    if "SequentialExecutor" in error.message:
        return BLAMELESS
    return NODE_FAULT


def missing_service(error: JobError | None) -> str | None:
    """The service a MODEL_NOT_AVAILABLE names (node-protocol 7), None for any other error."""
    if error is None or error.code != ErrorCode.MODEL_NOT_AVAILABLE or not isinstance(error.details, dict):
        return None
    named = error.details.get("service_id") or error.details.get("model_id")
    return named if isinstance(named, str) else None


def why_missing(error: JobError | None) -> str:
    """The reason that a MODEL_NOT_AVAILABLE gives, in a word."""
    details = error.details if error is not None else None
    reason = details.get("reason") if isinstance(details, dict) else None
    return reason[:MAX_REASON_CHARS] if isinstance(reason, str) and reason else UNKNOWN


def wire_code(error: JobError | None) -> ErrorCode:
    """The code a client is told; what is not in the table becomes INTERNAL_ERROR (node-protocol 8)."""
    if error is None or error.code == ErrorCode.PROCESSING_ERROR:
        return ErrorCode.INTERNAL_ERROR
    try:
        return ErrorCode(error.code)
    except ValueError:
        return ErrorCode.INTERNAL_ERROR
