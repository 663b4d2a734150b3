"""The grammar of API keys: `lk_<env>_<key_id>_<secret>` (gateway 3.2).

The id is public; whoever has the secret is the tenant. Operators may also make up keys of their own.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Env = Literal["live", "test"]

ID_CHARS = 12
"""Length of a key id, base32 in lower case: 60 bits."""

SECRET_CHARS = 43
"""Length of a secret, base64url: 256 bits."""

PREFIX_CHARS = 16
"""So much of a key is kept for display; it ends inside the id."""

MIN_OPERATOR_CHARS = 16
MAX_OPERATOR_CHARS = 256

SAFE_OPERATOR_CHARS = 32
"""Keys that operators make up need so many characters where real customers are served."""

_GRAMMAR = re.compile(
    rf"lk_(?P<env>live|test)_(?P<id>[a-z2-7]{{{ID_CHARS}}})_(?P<secret>[A-Za-z0-9_-]{{{SECRET_CHARS}}})"
)
_MADE_UP = re.compile(rf"[ -~]{{{MIN_OPERATOR_CHARS},{MAX_OPERATOR_CHARS}}}")


class ApiKey(NamedTuple):
    """A generated key in its parts."""

    env: Env
    id: str
    secret: str

    def text(self) -> str:
        """The key as callers send it."""
        return f"lk_{self.env}_{self.id}_{self.secret}"


def parse(text: str) -> ApiKey | None:
    """The parts of a generated key; None for anything else."""
    found = _GRAMMAR.fullmatch(text)
    return (
        ApiKey("live" if found["env"] == "live" else "test", found["id"], found["secret"]) if found else None
    )


def may_be_made_up(text: str) -> bool:
    """Whether an operator may use this text as a key: 16 to 256 printable ASCII characters."""
    return _MADE_UP.fullmatch(text) is not None
