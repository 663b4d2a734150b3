"""What can go wrong with Redis: it is away, or it is there and refuses. No text holds a secret."""

from __future__ import annotations

import re

from linguad.errors import LinguadError

MAX_TEXT_CHARS = 200
"""Longest part of what Redis says that goes into an error."""

AWAY_CODES = frozenset({"LOADING", "MASTERDOWN", "CLUSTERDOWN", "READONLY", "BUSY"})
"""Errors by which a server says that it cannot do anything now; the command was not carried out."""

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_CURES = {
    "OOM": "it is out of memory: raise its maxmemory, or find what fills it",
    "NOPERM": "its ACL does not let this user do that",
    "WRONGPASS": "it refuses the user or the password",
    "NOAUTH": "it wants a password, and none is set",
}


class RedisError(LinguadError):
    """Base of all that can go wrong with Redis."""


class RedisAddressError(RedisError):
    """A text is no address of a Redis; the error does not repeat it, because it may hold a password."""


class RedisAway(RedisError):
    """Redis cannot be used now: SCHEDULER_DEPENDENCY_DOWN for whoever needs it (design 7).

    `sent` is False if the command was surely not carried out; else nobody knows.
    """

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


class RedisRefusal(RedisError):
    """Redis answered with an error; `code` is its first word, as WRONGTYPE or NOSCRIPT."""

    def __init__(self, command: str, said: str) -> None:
        self.code, _, rest = said.partition(" ")
        # What Redis quotes are arguments of the command: keys, values and passwords.
        text = _CURES.get(self.code) or _QUOTED.sub("'…'", rest)[:MAX_TEXT_CHARS]
        self.said = said
        super().__init__(f"Redis refuses {command}: {self.code} ({text})")


def granted(reply: object) -> object:
    """A reply of `Link.call_all`. Raises RedisRefusal if Redis refused."""
    if isinstance(reply, RedisRefusal):
        raise reply
    return reply
