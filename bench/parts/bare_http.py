"""HTTP requests on bare sockets, one after another on each connection, on the loop of bench/parts/bare.py."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from bench.parts.bare import CONNECT_S, RECEIVE_BYTES

Answered = Callable[[int, int, bytes], bytes | None]
"""Takes the status of an answer, when its request was sent (ns), its body; gives the next request, if any."""


class HttpClient:
    """One connection that stays open between its requests."""

    __slots__ = ("_answered", "_body", "_buffer", "_sent_at", "_socket", "_whole")

    def __init__(self, port: int, answered: Answered) -> None:
        self._answered = answered
        self._buffer = bytearray()
        self._sent_at = 0
        self._body = 0
        self._whole = -1
        """Where the answer ends, once that is known."""
        self._socket = socket.create_connection(("127.0.0.1", port), CONNECT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Of the socket."""
        return self._socket.fileno()

    def close(self) -> None:
        """Drop the connection."""
        self._socket.close()

    def send(self, request: bytes, at: int = 0) -> None:
        """Send a request, which counts as sent at that time (ns); nothing else may be open."""
        self._sent_at = at or time.monotonic_ns()
        try:
            sent = self._socket.send(request)
        except BlockingIOError:
            sent = 0
        if sent < len(request):
            self._socket.settimeout(CONNECT_S)
            self._socket.sendall(request[sent:])
            self._socket.setblocking(False)

    def listen(self) -> None:
        """Take what has come."""
        data = self._socket.recv(RECEIVE_BYTES)
        if not data:
            raise SystemExit("the server dropped a connection")
        self._buffer += data
        if self._whole < 0 and (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end]).lower()
            _, found, rest = head.partition(b"\r\ncontent-length:")
            if not found:
                raise SystemExit(f"an answer without a length: {head!r}")
            self._body = end + 4
            self._whole = self._body + int(rest.partition(b"\r\n")[0])
        if 0 <= self._whole <= len(self._buffer):
            status = int(self._buffer[9:12])
            body = bytes(self._buffer[self._body : self._whole])
            del self._buffer[: self._whole]
            self._whole = -1
            following = self._answered(status, self._sent_at, body)
            if following is not None:
                self.send(following)


def request(method: str, path: str, key: str = "", body: bytes = b"", kind: str = "") -> bytes:
    """A whole request of HTTP/1.1, with a key and a body of a content type."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"Authorization: Bearer {key}"] if key else []
    lines += [f"Content-Type: {kind}"] if kind else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def upload(key: str, audio: bytes, **fields: str) -> bytes:
    """A request for the translation of a recording, as a multipart form."""
    mark = "linguad-bench-4f1c"
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    head = f'--{mark}\r\nContent-Disposition: form-data; name="audio"; filename="a.wav"\r\n\r\n'
    body = "".join([*parts, head]).encode() + audio + f"\r\n--{mark}--\r\n".encode()
    return request("POST", "/v1/speech/translate", key, body, f"multipart/form-data; boundary={mark}")
