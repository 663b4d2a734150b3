"""WebSocket clients on bare sockets, in one thread with epoll: cheap load that leaves the server its core.

Frames are masked with zeros, which a server unmasks at the price of any other mask.
"""

from __future__ import annotations

import heapq
import itertools
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Protocol

from linguad.net import dial

CONNECT_S = 30.0
RECEIVE_BYTES = 256 * 1024
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10

SO_TIMESTAMPNS = 35  # Linux; not in the socket module
_STAMP = struct.Struct("qq")  # seconds and nanoseconds on the real-time clock


class Peer(Protocol):
    """Somebody with a socket on a loop."""

    def fileno(self) -> int:
        """Of the socket."""
        ...

    def listen(self) -> None:
        """Take what has come."""
        ...


Step = Callable[[int], int | None]
"""What is done at a time (ns, monotonic), and when it is to be done again; None for never."""


class Loop:
    """The sockets and the time that all peers share."""

    def __init__(self) -> None:
        self._peers: dict[int, Peer] = {}
        self._due: list[tuple[int, int, Step]] = []
        self._serial = itertools.count()
        self._poll = select.epoll()

    def add(self, peer: Peer) -> None:
        """Have a peer listen when something has come."""
        self._peers[peer.fileno()] = peer
        self._poll.register(peer.fileno(), select.EPOLLIN)

    def at(self, due: int, step: Step) -> None:
        """Have something done at a time (ns)."""
        heapq.heappush(self._due, (due, next(self._serial), step))

    def run(self, seconds: float) -> None:
        """Do what is due, and listen, for so long."""
        until = time.monotonic_ns() + round(seconds * 1e9)
        while (now := time.monotonic_ns()) < until:
            while self._due and self._due[0][0] <= now:
                due, _, step = heapq.heappop(self._due)
                again = step(due)
                if again is not None:
                    self.at(again, step)
            next_due = min(self._due[0][0], until) if self._due else until
            for fd, _ in self._poll.poll(max(0, next_due - time.monotonic_ns()) / 1e9):
                self._peers[fd].listen()

    def close(self) -> None:
        """No more of it."""
        self._poll.close()


class Socket:
    """The client's end of a connection; pings are answered, a close ends the bench."""

    __slots__ = ("_buffer", "_socket", "arrived")

    def __init__(self, url: str, *, stamped: bool = False, headers: str = "") -> None:
        """With `stamped`, `arrived` is when the kernel had the newest bytes, however late they are read.

        `headers` are lines of the upgrade request, each with its end.
        """
        self.arrived = 0
        """When the newest bytes came, ns on the monotonic clock."""
        self._buffer, self._socket = _connect(url, headers)
        if stamped:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Of the socket."""
        return self._socket.fileno()

    def close(self) -> None:
        """Drop the connection."""
        self._socket.close()

    def send(self, text: str, kind: int = TEXT) -> None:
        """Send a message of ASCII; waits only while a server does not read what the kernel cannot hold."""
        frame = _frame(kind, text.encode("latin-1"))
        try:
            sent = self._socket.send(frame)
        except BlockingIOError:
            sent = 0
        if sent < len(frame):
            self._socket.settimeout(CONNECT_S)
            self._socket.sendall(frame[sent:])
            self._socket.setblocking(False)

    def ask(self, text: str) -> bytes:
        """Send a message and wait for the next one."""
        self.send(text)
        self._socket.settimeout(CONNECT_S)
        while not (messages := self.messages()):
            pass
        self._socket.setblocking(False)
        (answer,) = messages
        return answer

    def messages(self) -> list[bytes]:
        """The messages that are whole with what has come."""
        data, about, _, _ = self._socket.recvmsg(RECEIVE_BYTES, 64)
        if not data:
            raise SystemExit("the server dropped a connection")
        self.arrived = time.monotonic_ns()
        for level, kind, stamp in about:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                seconds, ns = _STAMP.unpack(stamp)
                self.arrived -= time.time_ns() - seconds * 1_000_000_000 - ns
        self._buffer += data
        texts = []
        for kind, payload in self._frames():
            if kind == TEXT:
                texts.append(payload)
            elif kind == PING:
                self.send(payload.decode("latin-1"), PONG)
            elif kind == CLOSE:
                code, reason = int.from_bytes(payload[:2], "big"), payload[2:].decode()
                raise SystemExit(f"the server closed a connection: {code} {reason}")
        return texts

    def _frames(self) -> list[tuple[int, bytes]]:
        """The whole frames in the buffer: kind and payload; servers neither mask nor split them."""
        frames, buffer, start = [], self._buffer, 0
        while len(buffer) - start >= 2:
            size, head = buffer[start + 1], start + 2
            if size >= 126:
                head += 2 if size == 126 else 8
                size = int.from_bytes(buffer[start + 2 : head], "big")
            if len(buffer) < head + size:
                break
            frames.append((buffer[start] & 15, bytes(buffer[head : head + size])))
            start = head + size
        del buffer[:start]
        return frames


def _connect(url: str, headers: str) -> tuple[bytearray, socket.socket]:
    """What came after the answer to the upgrade, and the socket."""
    target = dial.parse(url)
    sock = socket.create_connection((target.host, target.port), CONNECT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.send(
        f"GET {target.resource} HTTP/1.1\r\nHost: {target.authority}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{headers}\r\n".encode()
    )
    answer = bytearray()
    while b"\r\n\r\n" not in answer:
        data = sock.recv(RECEIVE_BYTES)
        answer += data
        if not data or not answer.startswith(b"HTTP/1.1 101"[: len(answer)]):
            raise SystemExit(f"{url} is no WebSocket: {bytes(answer[:200])!r}")
    return answer.partition(b"\r\n\r\n")[2], sock


def _frame(kind: int, payload: bytes) -> bytes:
    """A client's frame with a mask of zeros."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 2**16:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes([0x80 | kind]) + length + bytes(4) + payload
