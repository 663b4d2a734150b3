"""Where a Redis is: URLs, and the way from a URL to an open stream."""

from __future__ import annotations

import ssl
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import trio

from linguad.net.redis.errors import RedisAddressError
from linguad.net.stream import TimedStream

DEFAULT_PORT = 6379
EXAMPLE = "an address is like redis://user:password@host:6379/0, rediss://… for TLS or unix:///path?db=0"
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")

Stream = TimedStream | trio.SSLStream[TimedStream]


class Address(NamedTuple):
    """One Redis server and how to log in to it."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    path: str = ""
    """Of a Unix socket, instead of host and port."""
    db: int = 0
    user: str = ""
    password: str = ""
    tls: bool = False
    ca_file: str = ""
    """Certificate authorities in place of the system's."""
    certificate_file: str = ""
    key_file: str = ""

    @property
    def shown(self) -> str:
        """The address for people: without user and password."""
        if self.path:
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}"

    def at(self, host: str, port: int) -> Address:
        """Another server that is reached and logged in to in the same way."""
        return self._replace(host=host, port=port, path="")

    def __repr__(self) -> str:
        return f"Address({self.shown})"


def parse(url: str) -> Address:
    """The address a URL stands for, as redis-py reads it; a password may be percent-encoded.

    Raises RedisAddressError, which never repeats the URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
    except ValueError:
        raise _wrong("host or port cannot be read") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise _wrong("it begins with none of redis://, rediss:// and unix://")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    unix = parts.scheme == "unix"
    if unix and not parts.path:
        raise _wrong("unix:// wants the path of a socket")
    if not unix and not parts.hostname:
        raise _wrong("it names no host")
    db = query.pop("db", "") or ("" if unix else parts.path.strip("/"))
    if not (db or "0").isdecimal():
        raise _wrong("the database is not a number")
    files = [query.pop(name, "") for name in _FILES]
    if query:
        raise _wrong(f"it has parameters other than db, {', '.join(_FILES)}")
    user, password = _login(parts)
    return Address(
        host="" if unix else parts.hostname or "",
        port=0 if unix else port,
        path=unquote(parts.path) if unix else "",
        db=int(db or "0"),
        user=user,
        password=password,
        tls=parts.scheme == "rediss",
        ca_file=files[0],
        certificate_file=files[1],
        key_file=files[2],
    )


def _login(parts: SplitResult) -> tuple[str, str]:
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if user and not password:
        raise _wrong("it has a user without a password; a password alone is written redis://:password@host")
    return user, password


def _wrong(what: str) -> RedisAddressError:
    return RedisAddressError(f"the address of Redis cannot be used: {what}; {EXAMPLE}")


async def open_stream(address: Address, write_seconds: float) -> Stream:
    """A connection to the server, with TLS if the address wants it; the caller sets the deadline.

    Raises OSError (ssl.SSLError is one) or trio.BrokenResourceError.
    """
    if address.path:
        return TimedStream(await trio.open_unix_socket(address.path), write_seconds)
    timed = TimedStream(await trio.open_tcp_stream(address.host, address.port), write_seconds)
    if not address.tls:
        return timed
    try:
        context = await trio.to_thread.run_sync(_tls, address)
        secured = trio.SSLStream(timed, context, server_hostname=address.host, https_compatible=True)
        await secured.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(timed)
        raise
    return secured


def _tls(address: Address) -> ssl.SSLContext:
    """Read anew each time, because certificates are replaced while a daemon runs."""
    context = ssl.create_default_context(cafile=address.ca_file or None)
    if address.certificate_file:
        context.load_cert_chain(address.certificate_file, address.key_file or None)
    return context
