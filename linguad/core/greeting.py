"""The acknowledgement that opens a session (session-protocol 1.4)."""

from __future__ import annotations

from linguad.core.job import JobRequest
from linguad.core.sound import SAMPLE_RATE
from linguad.wire.session import SessionInitAck


def greeting(
    session: JobRequest, *, audio_format: str, binary: bool, token: str | None, within_s: float | None
) -> SessionInitAck:
    """Of a session whose requests have this in common; `within_s` is how long it can be resumed."""
    return SessionInitAck(
        session_id=session.session_id,
        message="session created",
        trace_id=session.trace_id,
        protocol_version="2.0" if binary else "1.0",
        use_binary_frame=binary,
        negotiated_codec=audio_format,
        negotiated_audio_format=audio_format,
        negotiated_sample_rate=SAMPLE_RATE,
        negotiated_channel_count=1,
        assigned_node_id=session.node_id or None,
        resume_token=token,
        resume_within_ms=None if within_s is None else round(within_s * 1000),
    )
