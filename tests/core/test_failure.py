"""What a failed attempt means: the table of node-protocol 6.6 and the codes clients are told (8)."""

from __future__ import annotations

import pytest

from linguad.core.failure import BLAMELESS, ID_REUSE, NODE_FAULT, PERMANENT, Verdict, judge, wire_code
from linguad.errors import ErrorCode
from linguad.wire.node import JobError


def processing(message: str) -> JobError:
    return JobError(code="PROCESSING_ERROR", message=message)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (JobError(code="MODEL_NOT_AVAILABLE", message="x"), BLAMELESS),
        (processing("DUPLICATE_JOB_ID: job-1"), ID_REUSE),
        (processing("DUPLICATE_UTTERANCE_INDEX: s-1 3"), ID_REUSE),
        (processing("SEM_REPAIR_UNAVAILABLE: SERVICE_NOT_AVAILABLE"), NODE_FAULT),
        (processing("SEM_REPAIR_TIMEOUT: CONCURRENCY_TIMEOUT"), NODE_FAULT),
        (processing("SEM_REPAIR_ERROR: SERVICE_ERROR"), NODE_FAULT),
        (processing("GPU lease timeout"), NODE_FAULT),
        (processing("No available ASR service"), NODE_FAULT),
        (processing("task dropped by SequentialExecutor"), BLAMELESS),
        (processing("SEM_REPAIR_UNSUPPORTED_LANG: xx"), PERMANENT),
        (processing("LID_INVALID_CANDIDATES"), PERMANENT),
        (processing("ASR_STEP_INVALID_LANG_CONTRACT: auto"), PERMANENT),
        (processing("Unsupported audio format: wav"), PERMANENT),
        (processing("Failed to decode Opus packet"), PERMANENT),
        (processing(""), NODE_FAULT),
        (JobError(code="NODE_OVERLOADED", message=""), NODE_FAULT),
        (JobError(code="MODEL_LOAD_FAILED", message=""), NODE_FAULT),
        (JobError(code="MODEL_CORRUPTED", message=""), NODE_FAULT),
        (JobError(code="MODEL_VERIFY_FAILED", message=""), NODE_FAULT),
        (JobError(code="NMT_TIMEOUT", message=""), NODE_FAULT),
        (JobError(code="TTS_TIMEOUT", message=""), NODE_FAULT),
        (JobError(code="SOMETHING_NEW", message="Opus"), NODE_FAULT),
        (None, NODE_FAULT),
    ],
)
def test_verdict(error: JobError | None, verdict: Verdict) -> None:
    assert judge(error) is verdict


def test_verdicts_say_what_the_table_says() -> None:
    assert Verdict(retry=True, blame=True) == NODE_FAULT
    assert Verdict(retry=True, blame=False) == BLAMELESS
    assert Verdict(retry=True, blame=False, same_node=True) == ID_REUSE
    assert Verdict(retry=False, blame=False) == PERMANENT


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, ErrorCode.INTERNAL_ERROR),
        (processing("x"), ErrorCode.INTERNAL_ERROR),
        (JobError(code="NO_SUCH_CODE", message=""), ErrorCode.INTERNAL_ERROR),
        (JobError(code="MODEL_NOT_AVAILABLE", message=""), ErrorCode.MODEL_NOT_AVAILABLE),
        (JobError(code="NMT_TIMEOUT", message=""), ErrorCode.NMT_TIMEOUT),
    ],
)
def test_what_clients_are_told(error: JobError | None, code: ErrorCode) -> None:
    assert wire_code(error) is code


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_has_words_for_people(code: ErrorCode) -> None:
    assert all(code.hint)
