"""Speech as clients get it: PCM16 is whole samples (session-protocol 1.8)."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from core.support import answer, request
from hypothesis import given
from hypothesis import strategies as st

from linguad.core.job import Attempt, Chosen, Job, Outcome
from linguad.core.key import Key
from linguad.core.lanes import Lane
from linguad.core.results import translation_result
from linguad.core.services import Services


def speech(audio: str, audio_format: str | None) -> str:
    """What becomes of the speech in a node's result."""
    attempt = Attempt(
        number=1,
        node_id="a",
        row=0,
        wire_job_id="job-1",
        wire_session_id="s-1",
        sent_at=0.0,
        deadline=60.0,
        chosen=Chosen.BEST,
    )
    job = Job(
        id="job-1",
        request=request(),
        key=Key("en", "es", Services.ASR),
        lane=Lane("s-1", 0),
        audio=None,
        seconds=1.0,
        created_at=0.0,
        attempts=[attempt],
    )
    result = answer(attempt, tts_audio=audio, tts_format=audio_format)
    outcome = Outcome(result=result, attempt=attempt)
    return translation_result(job, outcome, result, 1.0, 1000, created_ms=0).tts_audio


@given(st.binary(max_size=20), st.sampled_from(["pcm16", None]))
def test_half_a_sample_is_dropped(data: bytes, audio_format: str | None) -> None:
    assert b64decode(speech(b64encode(data).decode(), audio_format)) == data[: len(data) & ~1]


@given(st.binary(max_size=20))
def test_opus_is_untouched(data: bytes) -> None:
    assert speech(b64encode(data).decode(), "opus") == b64encode(data).decode()


@pytest.mark.parametrize("audio", ["A", "AA=", "AA=A", "\u00e9A=="])
def test_what_is_no_base64_is_not_played(audio: str) -> None:
    assert speech(audio, "pcm16") in ("", audio)
