"""Listening sockets that were opened before this process began: socket activation (sd_listen_fds(3)).

systemd keeps such a socket open while the daemon starts anew, so that nobody is refused meanwhile.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, MutableMapping

import trio

from linguad.errors import LinguadError

FIRST_DESCRIPTOR = 3
"""The first one handed over; the others follow (SD_LISTEN_FDS_START)."""

VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def inherited(
    doors: Iterable[str], env: MutableMapping[str, str] = os.environ
) -> dict[str, list[trio.SocketListener]]:
    """The sockets handed to this process, by the door that each is named after.

    Takes the variables away, so that no child believes it was meant. Raises LinguadError for a socket whose
    name (FileDescriptorName= in its unit) is not one of `doors`, or that does not listen.
    """
    pid, count, names = (env.pop(name, "") for name in VARIABLES)
    if pid != str(os.getpid()) or not count.isdecimal():
        return {}
    known, found = tuple(doors), dict[str, list[trio.SocketListener]]()
    given = names.split(":") if names else []
    for place in range(int(count)):
        name = given[place] if place < len(given) else "unknown"
        if name not in known:
            raise LinguadError(
                f'A socket named "{name}" was handed over; set FileDescriptorName= of its unit to one of '
                f"{', '.join(known)}."
            )
        found.setdefault(name, []).append(_listener(FIRST_DESCRIPTOR + place, name))
    return found


def _listener(descriptor: int, name: str) -> trio.SocketListener:
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise LinguadError(_unusable(name, error)) from error
    try:
        return trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    except (OSError, ValueError) as error:
        sock.close()
        raise LinguadError(_unusable(name, error)) from error


def _unusable(name: str, error: Exception) -> str:
    return (
        f'The socket handed over for "{name}" does not listen for TCP connections: {error}; '
        "use ListenStream= in its unit."
    )
