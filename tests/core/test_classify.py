"""What a node's answer amounts to: the classes of node-protocol 2.8, in their order."""

from __future__ import annotations

from typing import Any

import pytest

from linguad.core.job import ResultClass, classify
from linguad.wire.common import ExtraResult
from linguad.wire.node import JobError, JobResult

SAID = {"text_asr": "hello", "text_translated": "hola", "tts_audio": "AAAA"}


def result(**members: Any) -> JobResult:
    return JobResult(job_id="j", node_id="n", **({"success": True} | members))


@pytest.mark.parametrize(
    ("members", "whole", "slice_"),
    [
        (SAID, "COMPLETE", "COMPLETE"),
        (SAID | {"success": False}, "FAILED", "FAILED"),
        ({"success": False, "extra": ExtraResult(reason="ASR_EMPTY")}, "FAILED", "FAILED"),
        ({"success": False, "error": JobError(code="X", message="")}, "FAILED", "FAILED"),
        ({"extra": ExtraResult(reason="NO_TEXT_ASSIGNED")}, "NO_TEXT", "NO_TEXT"),
        (SAID | {"extra": ExtraResult(reason="NO_TEXT_ASSIGNED")}, "NO_TEXT", "NO_TEXT"),
        ({"extra": ExtraResult(reason="ASR_EMPTY")}, "EMPTY", "EMPTY"),
        (SAID | {"extra": ExtraResult(reason="ASR_EMPTY")}, "EMPTY", "EMPTY"),
        ({}, "EMPTY", "EMPTY"),
        ({"text_asr": "", "text_translated": " ", "tts_audio": ""}, "EMPTY", "EMPTY"),
        ({"text_asr": "hello"}, "COMPLETE", "PARTIAL_TURN"),
        ({"text_asr": "hello", "text_translated": "", "tts_audio": ""}, "COMPLETE", "PARTIAL_TURN"),
        ({"text_asr": "hello", "text_translated": "hola"}, "COMPLETE", "COMPLETE"),
        ({"text_asr": "hello", "tts_audio": "AAAA"}, "COMPLETE", "COMPLETE"),
        ({"text_translated": "hola"}, "COMPLETE", "COMPLETE"),
        ({"tts_audio": "AAAA"}, "COMPLETE", "COMPLETE"),
        (SAID | {"extra": ExtraResult(reason="CONSOLIDATED")}, "COMPLETE", "COMPLETE"),
        ({"extra": ExtraResult(language_probability=0.5)}, "EMPTY", "EMPTY"),
    ],
)
def test_class(members: dict[str, Any], whole: str, slice_: str) -> None:
    """`slice_` is the class when the job was a max-duration slice."""
    assert classify(result(**members), deferrable=False) is ResultClass[whole]
    assert classify(result(**members), deferrable=True) is ResultClass[slice_]
