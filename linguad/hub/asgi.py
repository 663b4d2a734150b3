"""What stands before the Quart app: files for connections that are Hypercorn's, and bodies of any size.

Quart reads a request's body as fast as it comes; here one message is asked for at a time, so that a client
that sends faster than the disk writes has to wait (resolution 45).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import msgspec
import trio

from linguad import log
from linguad.core.tenant import Scope
from linguad.hub.access import Access, Who
from linguad.hub.answers import Answer, Answerer, HubProblem, Lines, Request, Span, lines, refusal
from linguad.hub.catalog import Catalog
from linguad.hub.publishing import Publisher
from linguad.hub.records import Signature
from linguad.hub.scan import PACKAGE
from linguad.hub.storage import ALLOW, PREFIX
from linguad.hub.uploads import NewFile, NewVersion, Part, Uploads
from linguad.net.http import PEER
from linguad.web.problems import Problem

BLOCK_BYTES = 512 * 1024
"""Read and sent at a time; written at a time, when so much has come."""

MESSAGE_SECONDS = 30.0
"""How long the next part of a body may take to come."""

GRACE_SECONDS = 2.0
"""How long what a client sent before it left may take to be written."""

LINGER_SECONDS = 1.0
"""How long the rest of a refused body is read, so that the client hears why."""

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Note = Callable[[Who, str, str, dict[str, object]], Awaitable[None]]
logger = log.get(__name__)


class HubAsgi:
    """An ASGI app: some paths are answered here, all others by `app`."""

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        answer: Answerer,
        access: Access,
        catalog: Catalog,
        uploads: Uploads,
        publisher: Publisher,
        note: Note,
        extra: Callable[[Request], Lines],
        max_chunk_bytes: int,
    ) -> None:
        self._app = app
        self._answer = answer
        self._access = access
        self._catalog = catalog
        self._uploads = uploads
        self._publisher = publisher
        self._note = note
        self._extra = extra
        self._max_chunk_bytes = max_chunk_bytes

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """One request, or the life of the app."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _request(scope)
        segments = [unquote(segment) for segment in request.path.split("/")[1:]]
        match (request.method, segments):
            case ("OPTIONS", _):
                await _send(send, self._preflight(request), head_only=False)
            case (_, ["storage", _, *_] | ["api", "models" | "services"]):
                await self._respond(request, send, self._answer(request))
            case ("PATCH", ["api", "admin", "uploads", upload_id, "files", *path]) if path:
                body = _Body(receive)
                answer = self._patch(request, body, upload_id, "/".join(path))
                await self._respond(request, send, answer, body)
            case ("POST", ["api", "admin", "services", service_id, version, platform]) if platform not in (
                "yank",
                "deprecate",
                "uploads",
            ):
                body = _Body(receive)
                answer = self._package(request, body, service_id, version, platform)
                await self._respond(request, send, answer, body)
            case _:
                await self._app(scope, receive, send)

    async def _respond(
        self, request: Request, send: Send, coming: Awaitable[Answer], body: _Body | None = None
    ) -> None:
        request_id = str(uuid.uuid4())
        extra = [*self._extra(request), (b"x-request-id", request_id.encode())]
        try:
            answer = await coming
            answer.headers += extra
        except Problem as problem:
            answer = refusal(problem, request_id, extra)
        if body is not None:
            await body.discard()
        sent = 0
        try:
            sent = await _send(send, answer, head_only=request.method == "HEAD")
        finally:
            answer.finish(sent)

    def _preflight(self, request: Request) -> Answer:
        allow = ALLOW if request.path.startswith(PREFIX) else "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE"
        return Answer(204, [(b"allow", allow.encode()), *self._extra(request)])

    async def _patch(self, request: Request, body: _Body, upload_id: str, path: str) -> Answer:
        """One more part of a file (model-hub 11.1)."""
        self._access.require(request.headers, request.peer, Scope.HUB_PUBLISH)
        upload = self._uploads.get(upload_id)
        offset = request.headers.get("upload-offset", "")
        if not offset.isascii() or not offset.isdecimal() or len(offset) > 19:
            raise HubProblem.wrong_field("Upload-Offset", "must be the bytes of the file that are there")
        if _length(request) > self._max_chunk_bytes:
            raise HubProblem(413, "too_large", f"Send at most {self._max_chunk_bytes} bytes at a time.")

        async def append() -> Answer:
            part = await self._uploads.part(upload, path, int(offset))
            try:
                await _pour(body, part, self._max_chunk_bytes)
            finally:
                part.close()
            told = {"Upload-Offset": str(part.size), "Upload-Length": str(upload.file(path).size_bytes)}
            return Answer(204, lines(told))

        return await _with_grace(append, GRACE_SECONDS)

    async def _package(
        self, request: Request, body: _Body, service_id: str, version: str, platform: str
    ) -> Answer:
        """A whole package in one body (model-hub 11.3)."""
        who = self._access.require(request.headers, request.peer, Scope.HUB_PUBLISH)
        digest = request.headers.get("x-content-sha256", "").lower()
        size = _length(request)
        if size <= 0:
            raise HubProblem(411, "length_required", "Content-Length must say how large the package is.")
        signature = None
        if given := request.headers.get("x-signature"):
            try:
                signature = msgspec.json.decode(given, type=Signature)
            except msgspec.DecodeError as error:
                raise HubProblem.wrong_field("X-Signature", str(error)) from None
        wanted = NewVersion(
            version=version,
            files=[NewFile(PACKAGE, size, digest)],
            platform=platform,
            signature=signature,
        )
        upload, missing = await self._uploads.begin("service", service_id, wanted)
        status = 201
        try:
            if self._publisher.is_published(upload):
                status = 200
            else:
                if missing:
                    part = await self._uploads.part(upload, PACKAGE, 0)
                    try:
                        await _pour(body, part, size)
                    finally:
                        part.close()
                self._publisher.begin(upload)
                await self._publisher.commit(upload)
                if failed := upload.failed:
                    raise HubProblem(
                        422 if failed.file else 409,
                        "package_invalid" if failed.file else "not_published",
                        f"The package cannot be published: {failed.reason}",
                        retryable=False,
                        details=[{"field": failed.file, "reason": failed.reason}],
                    )
                target = f"{service_id}@{version}"
                await self._note(who, "service.publish", target, {"platform": platform})
        finally:
            with trio.CancelScope(shield=True):
                if not self._uploads.in_use(upload):
                    await self._uploads.abort(upload)
        service = self._catalog.current.services.get(service_id)
        entry = service.variants.get((version, platform)) if service else None
        told = msgspec.json.encode(entry.info if entry else {})
        close = [(b"connection", b"close")] if status == 200 else []
        return Answer(status, [(b"content-type", b"application/json"), *close], told)


async def _with_grace(work: Callable[[], Awaitable[Answer]], seconds: float) -> Answer:
    """What `work` gives; when it is cancelled it may go on for so long. Raises Problem as `work` does."""

    async def limit() -> None:
        try:
            await trio.sleep_forever()
        finally:
            shield.deadline = trio.current_time() + seconds

    shield = trio.CancelScope(shield=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limit)
        with shield:
            try:
                answer: Answer | Problem = await work()
            except Problem as problem:
                # not out of the nursery, which would wrap it
                answer = problem
        nursery.cancel_scope.cancel()
    if isinstance(answer, Problem):
        raise answer
    return answer


class _Body:
    """The body of a request, one message at a time."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False

    async def next(self) -> Any:
        """The next message."""
        message = await self._receive()
        self._ended = not message.get("more_body")
        return message

    async def discard(self) -> None:
        """Let what is left of a refused body pass for a moment.

        Closing with unread bytes resets the connection, and the client would never read why.
        """
        with trio.move_on_after(LINGER_SECONDS):
            while not self._ended:
                await self.next()


async def _pour(body: _Body, part: Part, most: int) -> None:
    """Write a request's body as it comes; what came before the client left stays."""
    block = bytearray()
    taken = 0
    while True:
        with trio.move_on_after(MESSAGE_SECONDS) as limit:
            message = await body.next()
        if limit.cancelled_caught:
            await part.write(bytes(block))
            raise HubProblem(408, "body_too_slow", "The body stopped coming; ask for the offset and go on.")
        if message["type"] == "http.disconnect":
            await part.write(bytes(block))
            raise HubProblem(400, "body_too_short", "The body ended early.")
        block += message.get("body", b"")
        taken += len(message.get("body", b""))
        if taken > most:
            raise HubProblem(413, "too_large", f"Send at most {most} bytes at a time.")
        if not message.get("more_body"):
            await part.write(bytes(block))
            return
        if len(block) >= BLOCK_BYTES:
            await part.write(bytes(block))
            block.clear()


async def _send(send: Send, answer: Answer, *, head_only: bool) -> int:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    body = answer.body
    sent = 0
    if isinstance(body, Span) and not head_only:
        while sent < body.length:
            block = await trio.to_thread.run_sync(
                os.pread, body.descriptor, min(BLOCK_BYTES, body.length - sent), body.start + sent
            )
            if not block:
                # the file was cut; Hypercorn ends the connection of an answer that is too short
                raise OSError("the file became shorter while it was sent")
            await send({"type": "http.response.body", "body": block, "more_body": True})
            sent += len(block)
    elif isinstance(body, bytes) and not head_only:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        sent = len(body)
    await send({"type": "http.response.body", "body": b""})
    return sent


def _request(scope: Any) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").partition("?")[0]
    return Request(scope["method"], path, scope["query_string"].decode("latin-1"), headers, scope[PEER])


def _length(request: Request) -> int:
    given = request.headers.get("content-length", "")
    return int(given) if given.isascii() and given.isdecimal() and len(given) <= 19 else -1
