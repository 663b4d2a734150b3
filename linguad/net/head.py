"""The head of an HTTP/1.1 request, read just far enough to choose who serves the connection."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEAD_END = re.compile(rb"\n\r?\n")
_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) ([!-~]+) HTTP/(\d)\.(\d)\r?")
_METHOD_BEGINS = re.compile(rb"[A-Z]{1,20}(?: |$)")


class BadHead(ValueError):
    """The bytes are not the beginning of an HTTP/1 request; `route` is what they are, for metrics."""

    def __init__(self, route: str, status: str, text: str) -> None:
        self.route = route
        self.status = status
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Head:
    """Request line and header lines."""

    method: str
    path: str
    """Without the query string, as sent."""
    headers: list[tuple[bytes, bytes]]
    """Names in lower case, in order."""
    length: int = 0
    """Bytes of the head, with the blank line that ends it."""
    query: str = ""
    """What follows the first `?`, as sent."""
    minor: int = 1
    """Of the version: HTTP/1.0 or HTTP/1.1."""

    @property
    def wants_websocket(self) -> bool:
        """It asks to become a WebSocket."""
        return self.method == "GET" and any(
            name == b"upgrade" and b"websocket" in value.lower().replace(b",", b" ").split()
            for name, value in self.headers
        )


def parse_head(data: bytes) -> Head | None:
    """The head at the start of `data`; None means that more bytes are needed.

    Raises BadHead as soon as the bytes cannot become one.
    """
    if not _METHOD_BEGINS.match(data):
        raise BadHead("garbage", "400 Bad Request", "This port speaks HTTP and WebSocket.")
    line, line_end, _ = data.partition(b"\n")
    if not line_end:
        return None
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise BadHead("garbage", "400 Bad Request", "This is no HTTP request line.")
    if match[3] != b"1":
        raise BadHead("http2", "505 HTTP Version Not Supported", "Only HTTP/1.1 is spoken here.")
    end = _HEAD_END.search(data, len(line))
    if end is None:
        return None
    headers = []
    for item in data[len(line) + 1 : end.start()].split(b"\n"):
        name, colon, value = item.partition(b":")
        if colon:
            headers.append((name.strip().lower(), value.strip()))
    path, _, query = match[2].decode("ascii").partition("?")
    return Head(match[1].decode("ascii"), path, headers, end.end(), query, int(match[4]))
