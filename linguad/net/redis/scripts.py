"""Lua scripts, run by their digest; a server that does not know one is given it once."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1

from redis.crc import key_slot

from linguad.net.redis.commands import Caller
from linguad.net.redis.errors import RedisRefusal
from linguad.net.redis.manners import Word


class Script:
    """A script whose keys all have one hash tag, so that it runs on a Redis Cluster too."""

    def __init__(self, name: str, source: str) -> None:
        """`name` is its label in metrics."""
        self.name = name
        self.source = source
        self.digest = sha1(source.encode(), usedforsecurity=False).hexdigest()

    async def __call__(
        self,
        redis: Caller,
        keys: Sequence[str | bytes],
        args: Sequence[Word] = (),
        *,
        repeatable: bool = False,
    ) -> object:
        """Run it and give what it returns: bytes, int, None, or a list of those.

        Raises as `Link.call` does, and ValueError if the keys are none or not all in one slot.
        """
        if len({key_slot(key.encode() if isinstance(key, str) else key) for key in keys}) != 1:
            raise ValueError(f"the keys of script {self.name} must have one hash tag")
        words = (len(keys), *keys, *args)
        try:
            return await redis.call(("EVALSHA", self.digest, *words), repeatable=repeatable, op=self.name)
        except RedisRefusal as error:
            if error.code != "NOSCRIPT":
                raise
        # EVAL also keeps the script; in a cluster it goes to the one server that lacks it
        return await redis.call(("EVAL", self.source, *words), repeatable=repeatable, op=self.name)
