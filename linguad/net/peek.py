"""A look at the first bytes of a connection without taking them off, for whoever will serve it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TypeVar

import trio

from linguad.net.head import BadHead

T = TypeVar("T")


class Gone(Exception):
    """The peer closed before it asked for anything."""


async def peek(sock: trio.socket.SocketType, parse: Callable[[bytes], T | None], limit: int) -> T:
    """What `parse` makes of the bytes that have come, as soon as there are enough; none is consumed.

    Raises Gone, BadHead when `limit` bytes are not enough, OSError, and what `parse` raises.
    """
    seen = 0
    try:
        while True:
            data = await sock.recv(limit, socket.MSG_PEEK)
            if len(data) <= seen:
                raise Gone
            parsed = parse(data)
            if parsed is not None:
                return parsed
            if len(data) >= limit:
                raise BadHead("too_big", "431 Request Header Fields Too Large", "The head is too big.")
            seen = len(data)
            # Peeked bytes stay readable: without this a client that sends two bytes and waits would make
            # the loop spin.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, seen + 1)
            await trio.lowlevel.wait_readable(sock)
    finally:
        if seen:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
