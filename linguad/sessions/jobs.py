"""What sessions need of those who have nodes."""

from __future__ import annotations

from typing import Protocol

from linguad.core.job import JobRequest
from linguad.core.utterance import Audio
from linguad.sessions.availability import FleetPort
from linguad.sessions.reception import NodeDesk


class JobPort(FleetPort, NodeDesk, Protocol):
    """Where utterances go."""

    def submit(self, request: JobRequest, audio: Audio) -> None:
        """Have an utterance translated."""
        ...

    def session_ended(self, session_id: str) -> None:
        """Cancel what a session still has running."""
        ...
