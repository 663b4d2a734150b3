"""Listening sockets: the same port on every address asked for."""

from __future__ import annotations

import errno
import socket

import trio

from linguad.errors import LinguadError

FREE_PORT_TRIES = 16
"""Ports the kernel may offer until one is free on IPv4 and IPv6 alike."""

_ABSENT = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


async def listen(
    host: str, port: int, backlog: int = 1024, setting: str = "server.port", *, reuse_port: bool = False
) -> list[trio.SocketListener]:
    """Listen on `port` (0: any free one) of `host`: "" is every address, "localhost" both loopbacks.

    All listeners have the same port. With `reuse_port` other processes that say so too may listen there, and
    the kernel deals connections out among them (SO_REUSEPORT). Raises LinguadError with one sentence that
    names `setting` as the cure if an address cannot be had; IPv6 may be missing where IPv4 is there.
    """
    addresses = await _addresses(host)
    for tries_left in reversed(range(FREE_PORT_TRIES)):
        try:
            return _bind_all(addresses, port, backlog, reuse_port)
        except OSError as error:
            if port == 0 and error.errno == errno.EADDRINUSE and tries_left:
                continue
            raise LinguadError(_explain(error, host, port, setting)) from error
    raise AssertionError("the last try returns or raises")


def port_of(listeners: list[trio.SocketListener]) -> int:
    """The port that `listen` got."""
    port: int = listeners[0].socket.getsockname()[1]
    return port


async def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    if host == "":
        return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
    if host == "localhost":
        return [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
    try:
        found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise LinguadError(f"Cannot listen on {host!r}: it is no address of this machine.") from error
    return [(family, str(address[0])) for family, _, _, _, address in found]


def _bind_all(
    addresses: list[tuple[socket.AddressFamily, str]], port: int, backlog: int, reuse_port: bool
) -> list[trio.SocketListener]:
    sockets: list[socket.socket] = []
    try:
        for family, address in addresses:
            try:
                sock = _bind(family, address, port, backlog, reuse_port)
            except OSError as error:
                if sockets and family == socket.AF_INET6 and error.errno in _ABSENT:
                    continue
                raise
            sockets.append(sock)
            port = sock.getsockname()[1]
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]


def _bind(
    family: socket.AddressFamily, address: str, port: int, backlog: int, reuse_port: bool
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def _explain(error: OSError, host: str, port: int, setting: str) -> str:
    where = f"port {port} of {host or 'all addresses'}"
    if error.errno == errno.EADDRINUSE:
        return f"Cannot listen on {where}: another program uses it; stop that program or change {setting}."
    if error.errno == errno.EACCES:
        return f"Cannot listen on {where}: ports below 1024 need a privilege; change {setting}."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"Cannot listen on {where}: this machine does not have that address."
    return f"Cannot listen on {where}: {error.strerror or error}."
