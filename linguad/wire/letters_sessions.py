"""Letters about sessions: that go on at another instance, that use a code of one (resolutions 49, 50)."""

from __future__ import annotations

from linguad.wire.letters import Letter


class SessionTaken(Letter, frozen=True, tag="session_taken"):
    """New owner to the one before: the client of the session is here; end your copy."""

    session: str
    epoch: int


class PairingUsed(Letter, frozen=True, tag="pairing_used"):
    """To the instance of a node: a session elsewhere has used its pairing code."""

    code: str
