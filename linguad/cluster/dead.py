"""Dead letters: what nobody could do anything with, kept for operators without audio and speech."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import trio

from linguad import log
from linguad.cluster.place import Place
from linguad.cluster.scripts import SEND
from linguad.metrics import DEAD_LETTERS
from linguad.net.redis.errors import RedisRefusal
from linguad.net.redis.manners import Words
from linguad.net.redis.streams import fields
from linguad.wire.letters import Envelope

SHOWN = ("kind", "from", "lane", "seq", "at_ms", "expires_ms", "deliveries", "error", "bytes", "replayable")
NUMBERS = frozenset({"seq", "at_ms", "expires_ms", "deliveries", "bytes"})

logger = log.get(__name__)


class DeadLetters:
    """The dead letters of all instances; each has a stream, `{i:<instance>}:dlq`."""

    def __init__(self, place: Place, kept: int, keeps_body: Callable[[str], bool]) -> None:
        """`kept` of an instance at most; `keeps_body` tells of which kinds the body may be kept."""
        self._place = place
        self._kept = kept
        self._keeps_body = keeps_body

    def command(self, envelope: Envelope, problem: str, deliveries: int) -> Words:
        """The command that puts a letter among those of this instance."""
        DEAD_LETTERS.inc()
        logger.warning(
            "letter_dead",
            kind=envelope.kind,
            instance=envelope.sender,
            lane=envelope.lane,
            deliveries=deliveries,
            reason=problem,
        )
        body = () if envelope.audio or not self._keeps_body(envelope.kind) else ("body", envelope.body)
        return (
            *("XADD", self._place.key("dlq"), "MAXLEN", "~", self._kept, "*"),
            *("kind", envelope.kind, "from", envelope.sender, "lane", envelope.lane, "seq", envelope.seq),
            *("at_ms", envelope.at_ms, "expires_ms", envelope.expires_ms, "deliveries", deliveries),
            *("error", problem[:200], "bytes", envelope.size, *body),
        )

    async def listed(self, instance: str, most: int) -> list[dict[str, object]]:
        """The newest ones of an instance. Raises as `Link.call` does."""
        key = self._place.key("dlq", instance)
        found = await self._place.redis.caller.call(("XREVRANGE", key, "+", "-", "COUNT", most))
        return [_shown(instance, entry) for entry in cast("list[Any]", found)]

    async def one(self, instance: str, entry_id: str) -> dict[str, object] | None:
        """One of them, if it is there. Raises as `Link.call` does."""
        entry = await self._entry(instance, entry_id)
        return entry and _shown(instance, entry)

    async def drop(self, instance: str, entry_id: str) -> bool:
        """Remove one; False if it is not there. Raises as `Link.call` does."""
        key = self._place.key("dlq", instance)
        return bool(await self._place.redis.caller.call(("XDEL", key, entry_id)))

    async def replay(self, instance: str, boot: str, entry_id: str) -> str:
        """Put one into the inbox again, of the process `boot`; tells why not, or "" if it is done.

        Raises as `Link.call` does.
        """
        place = self._place
        entry = await self._entry(instance, entry_id)
        if entry is None:
            return "there is no such dead letter"
        said = fields(entry[1])
        if b"body" not in said:
            return "of this kind only the head is kept, because the letter may hold what somebody said"
        left_ms = int(said[b"expires_ms"]) - place.clock.now_ms()
        if left_ms < 1:
            return "it has expired, and nothing old is ever delivered"
        keys = [place.key(what, instance) for what in ("alive", "inbox", "acked")]
        letter = (said[b"kind"], said[b"body"], b"", said[b"lane"], 1, int(left_ms))
        words = (boot, f"replay-{entry_id}-{trio.current_time()}", said[b"from"], *letter)
        if await SEND(place.redis.caller, keys, words) is None:
            return f"{instance} is not alive"
        await self.drop(instance, entry_id)
        return ""

    async def inherit(self, instance: str) -> None:
        """Copy those of a dead instance to our own. Raises as `Link.call` does."""
        place = self._place
        key = place.key("dlq", instance)
        for entry in cast("list[Any]", await place.redis.caller.call(("XRANGE", key, "-", "+"))):
            to = ("XADD", place.key("dlq"), "MAXLEN", "~", self._kept, "*")
            await place.redis.caller.call((*to, *entry[1]))

    async def _entry(self, instance: str, entry_id: str) -> Any:
        words = ("XRANGE", self._place.key("dlq", instance), entry_id, entry_id)
        try:
            found = cast("list[Any]", await self._place.redis.caller.call(words))
        except RedisRefusal as error:
            if error.code != "ERR":  # not the id of an entry
                raise
            return None
        return found[0] if found else None


def _shown(instance: str, entry: Any) -> dict[str, object]:
    """All but the body."""
    said = {name.decode(): value for name, value in fields(entry[1]).items()}
    shown: dict[str, object] = {"id": f"{instance}/{entry[0].decode()}", "instance": instance}
    for name in SHOWN:
        if name in said:
            text = said[name].decode(errors="replace")
            shown[name] = int(text) if name in NUMBERS and text.isdigit() else text
    return shown | {"replayable": "body" in said}
