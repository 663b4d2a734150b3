"""Apps on `/v1/stream` of a real daemon, and how they are refused."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from harness import QUEUE, Json
from processes import PATIENCE_S, Api
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

SECOND = bytes(range(1, 251)) * 128
"""A second of PCM16 at 16 kHz."""


class App:
    """An app on a stream."""

    def __init__(self, socket: WebSocketConnection, stream: trio.SocketStream, api: Api) -> None:
        self.socket = socket
        self.stream = stream
        self._api = api

    async def say(self, type: str, **members: Any) -> None:
        """Send a message."""
        await self.socket.send_message(json.dumps({"type": type, **members}))

    async def speak(self, seconds: int = 1, **members: Any) -> None:
        """Send audio."""
        await self.say("audio", chunk=b64encode(SECOND * seconds).decode(), **members)

    async def hear(self, type: str) -> Json:
        """The next message of a type."""
        with trio.fail_after(PATIENCE_S):
            while True:
                message: Json = json.loads(await self.socket.get_message())
                if message["type"] == "error":
                    self._api.errors.append(("/v1/stream", json.dumps(message).encode()))
                if message["type"] == type:
                    return message

    async def closed(self) -> tuple[int, str | None]:
        """Code and reason, when the server has closed the socket."""
        with trio.fail_after(PATIENCE_S), suppress(ConnectionClosed):
            while True:
                await self.socket.get_message()
        reason = self.socket.closed
        assert reason is not None
        return reason.code, reason.reason


@asynccontextmanager
async def stream_of(
    api: Api, query: str = "", key: str | None = None, subprotocols: list[str] | None = None, **headers: str
) -> AsyncIterator[App]:
    """A socket; "" for `key` shows none."""
    key = api.key if key is None else key
    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    lines += [(b"Authorization", f"Bearer {key}".encode())] if key else []
    stream = await trio.open_tcp_stream("127.0.0.1", api.port)
    try:
        async with trio.open_nursery() as nursery:
            socket = await wrap_client_stream(
                nursery,
                stream,
                f"127.0.0.1:{api.port}",
                f"/v1/stream{query}",
                extra_headers=lines,
                subprotocols=subprotocols,
                message_queue_size=QUEUE,
            )
            yield App(socket, stream, api)
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)


async def refused(api: Api, query: str = "", key: str | None = None, **headers: str) -> tuple[int, Json]:
    """Status and error of an upgrade that is refused."""
    with pytest.raises((ConnectionRejected, BaseExceptionGroup)) as caught:
        async with stream_of(api, query, key, **headers):
            pass
    error: Any = caught.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, ConnectionRejected)
    api.errors.append((f"/v1/stream{query}", error.body or b""))
    problem: Json = json.loads(error.body or b"{}")["error"]
    assert dict(error.headers or ())[b"x-request-id"].decode() == problem["request_id"]
    return error.status_code, problem


async def ticket_of(api: Api, **body: Any) -> str:
    """A ticket for one stream."""
    reply = await api.call("POST", "/v1/stream/tickets", body)
    assert reply.status == 201, reply
    ticket: str = reply.json["ticket"]
    return ticket


async def until_in_use(api: Api, sessions: int) -> None:
    """Wait until the tenant has so many sessions."""
    with trio.fail_after(PATIENCE_S):
        while (await api.call("GET", "/v1/me")).json["sessions_in_use"] != sessions:  # noqa: ASYNC110
            await trio.sleep(0.02)
