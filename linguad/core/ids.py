"""Names that must be unique; the core takes them from outside so that tests and simulation repeat exactly."""

from __future__ import annotations

from typing import Protocol


class Ids(Protocol):
    """Source of fresh identifiers."""

    def session(self) -> str:
        """`s-` and at least 96 random bits (session-protocol 2.4.1)."""
        ...

    def job(self) -> str:
        """`job-` and a UUID."""
        ...

    def node(self) -> str:
        """`node-` and 8 upper-case hexadecimal digits (node-protocol 3.3)."""
        ...

    def uuid(self) -> str:
        """A plain UUID, for turns and traces."""
        ...

    def trace(self) -> str:
        """32 hexadecimal digits, not all 0: a trace id of the W3C."""
        ...

    def resume_token(self) -> str:
        """A secret of 192 random bits (resolution 17)."""
        ...

    def pairing_code(self) -> str:
        """6 decimal digits, not necessarily fresh ones (node-protocol 5.7)."""
        ...

    def room_code(self) -> str:
        """6 decimal digits, the first not 0; not necessarily fresh ones (session-protocol 6.1)."""
        ...
