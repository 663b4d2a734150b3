"""Where the master is: Redis Sentinels know, and are asked before each attempt to connect."""

from __future__ import annotations

from urllib.parse import urlsplit

import hiredis
import trio

from linguad.net.redis.address import Address, open_stream, parse
from linguad.net.redis.errors import RedisAddressError, RedisAway, RedisError
from linguad.net.redis.greeting import exchange
from linguad.net.redis.manners import Words

SCHEMES = ("redis+sentinel", "rediss+sentinel")

ANSWER_S = 1.0
"""A sentinel that does not answer within so long is passed over, s."""

DEFAULT_PORT = 26379
_EXAMPLE = "redis+sentinel://user:password@host:26379,host:26379/name-of-the-master/0"


class Sentinels:
    """A resolver. Mutable state: which sentinel is asked first, the one that answered last."""

    def __init__(self, url: str, *, user: str = "", password: str = "") -> None:
        """The user in the URL is that of Redis; `user` and `password` are those of the sentinels.

        Raises RedisAddressError.
        """
        scheme, _, rest = url.partition("://")
        login, at, places = rest.rpartition("@")
        hosts, _, path = places.partition("/")
        self._service, _, db = urlsplit(f"//x/{path}").path.strip("/").partition("/")
        if scheme not in SCHEMES or not hosts or not self._service:
            raise RedisAddressError(f"sentinels and their master are given like {_EXAMPLE}")
        plain = scheme.partition("+")[0]
        self._master = parse(f"{plain}://{login}{at}master/{db}")
        asked = [parse(f"{plain}://{host}") for host in hosts.split(",")]
        self._sentinels = [
            address._replace(
                user=user, password=password, port=address.port if _has_port(host) else DEFAULT_PORT
            )
            for host, address in zip(hosts.split(","), asked, strict=True)
        ]

    async def __call__(self) -> Address:
        """The address of the master. Raises RedisAway if no sentinel names one."""
        reason = "none of them answers"
        for address in list(self._sentinels):
            try:
                with trio.fail_after(ANSWER_S):
                    master = await self._ask(address)
            except (OSError, trio.TooSlowError, trio.BrokenResourceError, RedisError):
                continue
            if master is not None:
                self._sentinels.remove(address)
                self._sentinels.insert(0, address)
                return master
            reason = f"they know no master {self._service}"
        raise RedisAway(f"the sentinels cannot tell where Redis is: {reason}", sent=False)

    async def _ask(self, sentinel: Address) -> Address | None:
        words: list[Words] = [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)]
        if sentinel.password:
            words.insert(0, ("AUTH", sentinel.user or "default", sentinel.password))
        stream = await open_stream(sentinel, ANSWER_S)
        try:
            answer = (await exchange(stream, words))[-1]
        finally:
            await trio.aclose_forcefully(stream)
        if isinstance(answer, hiredis.ReplyError):
            raise RedisAway("the sentinel refuses to answer", sent=False)
        match answer:
            case [bytes(host), bytes(port)]:
                return self._master.at(host.decode(), int(port))
        return None


def _has_port(host: str) -> bool:
    return host.rpartition("]")[2].rpartition(":")[2].isdecimal()
