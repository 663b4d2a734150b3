"""All commands of Redis with their types: redis-py's own command layer on a link (design 5.7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from redis._parsers.response_callbacks import get_response_callbacks
from redis.commands import AsyncCoreCommands

from linguad.net.redis.manners import Words

_MADE_OF_REPLIES = get_response_callbacks(user_protocol=3, legacy_responses=False)
_OF_THE_CLIENT = ("NEVER_DECODE", "EMPTY_RESPONSE", "keys")
"""Options that redis-py's commands pass to redis-py's client and not to what reads the reply."""


class Caller(Protocol):
    """What carries commands: a link, or the links to a cluster."""

    async def call(
        self, words: Words, *, seconds: float | None = None, repeatable: bool = False, op: str = ""
    ) -> object:
        """As `Link.call`."""

    async def call_all(self, commands: Sequence[Words]) -> list[object]:
        """As `Link.call_all`."""


class Redis(AsyncCoreCommands):
    """`await redis.hset(…)` and all other commands; replies are bytes, never decoded, in the shapes of RESP3.

    Each raises RedisAway, RedisRefusal, and ValueError or TypeError for what must not be sent. Pipelines and
    transactions are not there: tasks share one buffer anyway (or `caller.call_all`), and one script does what
    a transaction could.
    """

    _is_async_client: Literal[True] = True
    _event_dispatcher: Any = None
    """redis-py's pools of connections would use it."""

    def __init__(self, caller: Caller, *, repeatable: bool = False) -> None:
        self.caller = caller
        self._repeatable = repeatable

    @property
    def repeatable(self) -> Redis:
        """The same commands, sent once more if the connection is lost before the reply.

        Only for what may be carried out twice: reads, and writes like SET or HSET of whole values.
        """
        return Redis(self.caller, repeatable=True)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command, which redis-py's methods have put into words, and shape its reply."""
        name: str = args[0]
        # redis-py writes the names of subcommands as one word
        words = (*name.split(), *args[1:]) if " " in name else args
        reply = await self.caller.call(words, repeatable=self._repeatable)
        shape = _MADE_OF_REPLIES.get(name)
        if shape is None:
            return reply
        for option in _OF_THE_CLIENT:
            options.pop(option, None)
        return shape(reply, **options)
