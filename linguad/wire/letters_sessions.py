"""Letters about sessions that go on at another instance (resolution 49)."""

from __future__ import annotations

from linguad.wire.letters import Letter


class SessionTaken(Letter, frozen=True, tag="session_taken"):
    """New owner to the one before: the client of the session is here; end your copy."""

    session: str
    epoch: int
