"""Names of keys: one prefix for all of an installation, one hash tag for all keys of a thing (design 7)."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Literal

from linguad.net.redis.errors import RedisError

Kind = Literal["i", "n", "b", "s", "room", "pair", "t", "ticket"]
"""Instance, node, bucket, session, room, pairing code, tenant, ticket of a web page."""

VERSION = "v2"
"""Of the scheme; another one would not see the keys of this."""

_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Keys:
    """Makes keys below a prefix, so that two installations can share a Redis."""

    def __init__(self, prefix: str) -> None:
        """Raises RedisError for a prefix that could be taken for a hash tag or another's key."""
        if not _PREFIX.fullmatch(prefix):
            raise RedisError(
                f"{prefix!r} cannot begin keys in Redis; allowed are up to 64 letters, digits and ._:-"
            )
        self.prefix = prefix
        self._base = f"{prefix}:{VERSION}:"
        self.instances = f"{self._base}reg:inst"
        """The sorted set of all instances."""
        self.accounts = f"{self._base}accounts"
        """The channel on which changes of tenants, keys and webhooks are told."""

    def of(self, kind: Kind, name: str, what: str = "") -> str:
        """The key for `what` of a thing, such as `lingua:v2:{n:node-1}:rec`.

        Names that are not plain are replaced by their SHA-256: no name can hold a brace or look like the key
        of something else (pools-and-cluster 4.4).
        """
        safe = name if _PLAIN.fullmatch(name) else sha256(name.encode()).hexdigest()
        return f"{self._base}{{{kind}:{safe}}}{what and ':'}{what}"
