"""The first words with a Redis server: log in, and see whether it is one that can be used."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import hiredis

from linguad.net.redis.address import Address, Stream
from linguad.net.redis.errors import RedisError
from linguad.net.redis.manners import Words, pack

READ_BYTES = 64 * 1024
"""Most bytes taken from a connection at a time."""

OLDEST = (6, 2)
"""The oldest version with all commands that are used (XAUTOCLAIM, GETDEL)."""

_UNFINISHED = object()
_LOGIN_CURES = {
    "WRONGPASS": "it refuses the user or the password: check those in its URL",
    "NOAUTH": "it wants a password, and its URL holds none",
    "NOPERM": "its ACL does not let this user say HELLO, SELECT or PING",
}


class Unusable(RedisError):
    """A server answers, but cannot be used now; the text says why and what to do."""


class Greeting(NamedTuple):
    """What a server said about itself."""

    version: str
    cluster: bool
    """Whether it is a part of a Redis Cluster."""


async def greet(stream: Stream, address: Address, client_name: str, *, cluster: bool) -> Greeting:
    """Log in with RESP3 and check the server; the caller sets the deadline.

    Raises Unusable, or what the stream raises.
    """
    name = re.sub("[^!-~]", "_", client_name)
    login = ("AUTH", address.user or "default", address.password) if address.password else ()
    # PING, because HELLO is answered even while the server still loads its data.
    words: list[Words] = [("HELLO", "3", *login, "SETNAME", name), ("PING",)]
    if address.db:
        words.insert(1, ("SELECT", str(address.db)))
    hello, *others = await exchange(stream, words)
    for name, reply in (("HELLO", hello), *zip(("SELECT", "PING")[-len(others) :], others, strict=True)):
        if isinstance(reply, hiredis.ReplyError) and not _is_only_ping(name, reply):
            raise Unusable(_refused(name, str(reply)))
    return _checked(hello, cluster)


def _is_only_ping(name: str, reply: hiredis.ReplyError) -> bool:
    """A user who may do little may be forbidden to ping, which harms nobody."""
    return name == "PING" and str(reply).startswith("NOPERM")


async def exchange(stream: Stream, commands: Sequence[Words]) -> list[object]:
    """Send commands over a connection of nobody else and give their replies, errors among them.

    Raises Unusable, or what the stream raises.
    """
    await stream.send_all(b"".join(map(pack, commands)))
    reader = hiredis.Reader(notEnoughData=_UNFINISHED)
    replies: list[object] = []
    try:
        while len(replies) < len(commands):
            if (reply := reader.gets()) is not _UNFINISHED:
                replies.append(reply)
            elif data := await stream.receive_some(READ_BYTES):
                reader.feed(bytes(data))
            else:
                raise Unusable("it closed the connection during the login")
    except (hiredis.HiredisError, TypeError, ValueError):
        raise Unusable("what answers there is not a Redis") from None
    return replies


def _refused(name: str, said: str) -> str:
    code, _, rest = said.partition(" ")
    if code in _LOGIN_CURES:
        return _LOGIN_CURES[code]
    if code == "LOADING":
        return "it loads its data and is not ready yet"
    if name == "HELLO" and code == "ERR":
        # The text may quote the command, which holds the password.
        if "without any password configured" in rest:
            return "it has no password, but its URL holds one"
        return f"it does not take RESP3 (HELLO 3); Redis {_dotted(OLDEST)} or later is needed"
    if name == "SELECT":
        return "it does not have the database of its URL"
    return f"it answered {name} with {code}"


def _checked(hello: object, cluster: bool) -> Greeting:
    if not isinstance(hello, dict):
        raise Unusable("what answers there is not a Redis")
    facts = {key.decode(): value for key, value in hello.items() if isinstance(key, bytes)}
    version, mode, role = (_text(facts.get(name)) for name in ("version", "mode", "role"))
    digits = [int(part) for part in version.split(".")[:2] if part.isdecimal()]
    if tuple(digits) < OLDEST:
        raise Unusable(f"it is Redis {version}; {_dotted(OLDEST)} or later is needed")
    if mode == "sentinel":
        raise Unusable("it is a sentinel; give a URL redis+sentinel://host:port/name-of-the-master")
    if cluster and mode != "cluster":
        raise Unusable("it is no part of a Redis Cluster; give its URL alone, not in the list of a cluster")
    if not cluster and mode == "cluster":
        raise Unusable("it is part of a Redis Cluster; give it in the list of the cluster's URLs")
    # one of a cluster sends us to its master by MOVED
    if not cluster and role != "master":
        raise Unusable("it is a replica; give the URL of the master, or of the sentinels")
    return Greeting(version, mode == "cluster")


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
