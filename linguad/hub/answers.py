"""Answers that need no framework: the same for the direct way of files and for ASGI."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct

from linguad.net.peer import Peer
from linguad.web.problems import Problem

Lines = list[tuple[bytes, bytes]]
"""Header lines, names in lower case."""


class HubProblem(Problem):
    """An error with the member `detail` that old clients read (model-hub 10)."""

    def body(self, request_id: str, trace_id: str | None = None) -> dict[str, Any]:
        """The JSON body of the answer."""
        return {"detail": self.message, **super().body(request_id, trace_id)}


class OldProblem(Problem):
    """An error that the hub always had; its body is byte for byte what it was."""

    def body(self, request_id: str, trace_id: str | None = None) -> dict[str, Any]:
        """The JSON body of the answer."""
        return {"detail": self.message}


def disk_problem(error: OSError) -> HubProblem:
    """What a request hears when the models directory cannot be written or read."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HubProblem(507, "insufficient_storage", "The disk of the models directory is full.")
    return HubProblem(503, "disk_failed", "The models directory cannot be used now; its log says why.")


class Request(Struct, frozen=True):
    """What matters of a request without a body."""

    method: str
    path: str
    """As it was sent: not decoded."""
    query: str
    headers: Mapping[str, str]
    """Names in lower case; several lines of one name are joined by commas."""
    peer: Peer
    """The client."""

    def asked(self, name: str) -> str:
        """The value of a query parameter; "" if there is none."""
        return parse_qs(self.query).get(name, [""])[0]


class Span:
    """A part of an open file, to be sent and closed."""

    def __init__(self, descriptor: int, start: int, length: int) -> None:
        self.descriptor = descriptor
        self.start = start
        self.length = length

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


class Answer:
    """Status, headers and body; `finish` must be called once, whatever happens."""

    def __init__(
        self,
        status: int,
        headers: Lines,
        body: bytes | Span = b"",
        *,
        when_done: Callable[[int], object] | None = None,
    ) -> None:
        """Content-Length is added."""
        self.status = status
        self.body = body
        size = len(body) if isinstance(body, bytes) else body.length
        self.headers: Lines = [*headers, (b"content-length", b"%d" % size)]
        if status in (204, 304):
            self.headers = list(headers)
        self._when_done = when_done

    def finish(self, sent: int) -> None:
        """The body is out, or as much of it as could be sent (bytes)."""
        if isinstance(self.body, Span):
            self.body.close()
        if self._when_done is not None:
            self._when_done(sent)


Answerer = Callable[[Request], Awaitable[Answer]]


def lines(headers: Mapping[str, str]) -> Lines:
    """Header lines of a mapping."""
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]


def refusal(problem: Problem, request_id: str, extra: Lines) -> Answer:
    """The answer of a problem."""
    body = msgspec.json.encode(problem.body(request_id))
    head = [(b"content-type", b"application/json"), *lines(problem.headers), *extra]
    return Answer(problem.status, head, body)
