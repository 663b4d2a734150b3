"""Fresh identifiers from the system's randomness; `core.ids.Ids` is what the core asks for."""

from __future__ import annotations

import secrets
import uuid


class RandomIds:
    """Unguessable session ids, UUIDs for the rest, short ids for nodes."""

    def session(self) -> str:
        """`s-` and 96 random bits, 26 characters."""
        return f"s-{secrets.token_hex(12).upper()}"

    def job(self) -> str:
        """`job-` and a UUID."""
        return f"job-{uuid.uuid4()}"

    def node(self) -> str:
        """`node-` and 8 upper-case hexadecimal digits, the form real nodes know."""
        return f"node-{secrets.token_hex(4).upper()}"

    def uuid(self) -> str:
        """A plain UUID."""
        return str(uuid.uuid4())

    def trace(self) -> str:
        """32 random hexadecimal digits."""
        return uuid.uuid4().hex

    def resume_token(self) -> str:
        """192 random bits, 32 characters."""
        return secrets.token_urlsafe(24)

    def pairing_code(self) -> str:
        """6 random decimal digits."""
        return f"{secrets.randbelow(1_000_000):06d}"

    def room_code(self) -> str:
        """A random number from 100000 to 999999, which no program writes shorter."""
        return str(100_000 + secrets.randbelow(900_000))
