"""One connection to `/ws/session`, from the first message to the close (session-protocol 1.2 to 1.5)."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from math import inf

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from linguad.client.errors import ClientError, ClosedError, ConnectError, RefusedError, SilentError
from linguad.errors import WireError
from linguad.net import dial
from linguad.wire import codec
from linguad.wire.session import ClientHeartbeat, ErrorMessage, ServerMessage, SessionInit, SessionInitAck

CONNECT_S = 10.0
"""Deadline for TCP, TLS and the upgrade, each slow only when something is wrong, s."""

ACK_S = 10.0
"""Deadline for `session_init_ack`, which a server sends without looking anything up, s."""

SEND_S = 30.0
"""Deadline for one message to leave; enough for a paused minute of audio on a slow uplink, s."""

HEARTBEAT_S = 30.0
"""Between two heartbeats, as real web clients do (session-protocol 1.5), s."""

RESUMABLE_HEARTBEAT_S = 10.0
"""The same where a session can be resumed: a dead line is to be noticed before the server forgets it, s."""

SILENT_BEATS = 3
"""So many heartbeats without any frame, and the server is taken for dead."""

MAX_MESSAGE_BYTES = 16 * 2**20
"""Longest message that is accepted."""


class Connection:
    """An open connection with its session; who meets its end first says why, and all others say the same."""

    def __init__(self, ws: WebSocketConnection, ack: SessionInitAck) -> None:
        self.ack = ack
        self._ws = ws
        self._failure: ClientError | None = None
        self._waiting_since: float | None = None
        self._waiting = trio.CancelScope()
        self._left = False

    async def send(self, frame: str | bytes) -> None:
        """Send a message. Raises ClientError.

        A cancelled send ends the connection, because half a frame may be out.
        """
        if self._failure is not None:
            raise self._failure
        sent = False
        try:
            with trio.fail_after(SEND_S):
                await self._ws.send_message(frame)
            sent = True
        except ConnectionClosed:
            raise self._fail(_closed(self._ws)) from None
        except trio.TooSlowError:
            raise self._fail(SilentError(f"the server took no data for {SEND_S:g} s")) from None
        finally:
            if not sent:
                self._fail(ClosedError(1006, "the session ended because a message was not sent completely"))
                await self._abort()

    async def receive(self) -> ServerMessage:
        """The next message that makes sense; those that came before the end are given in any case.

        Raises ClientError.
        """
        while True:
            try:
                frame = await self._frame()
            except ConnectionClosed:
                raise self._fail(_closed(self._ws)) from None
            finally:
                # An application that reads slowly must not look like a silent server.
                self._waiting_since = None
            try:
                return codec.server_messages.decode(frame)
            except WireError:
                # A newer server may say more than we know; the codec has counted it.
                continue

    async def beat(self) -> None:
        """Send heartbeats, and drop a connection that has gone silent, to its end."""
        pause_s = RESUMABLE_HEARTBEAT_S if self.ack.resume_token else HEARTBEAT_S
        while self._failure is None:
            await trio.sleep(pause_s)
            waiting, silent_s = self._waiting_since, SILENT_BEATS * pause_s
            if waiting is not None and trio.current_time() - waiting >= silent_s:
                self._fail(SilentError(f"the server has not answered for {silent_s:g} s"))
                await self._abort()
                return
            try:
                beat = ClientHeartbeat(session_id=self.ack.session_id, timestamp=epoch_ms())
                await self.send(codec.encode(beat))
            except ClientError:
                # It is kept, and raised by whatever is done next.
                return

    def end(self) -> None:
        """Receive nothing more: `receive` raises, and its caller leaves the block of `connect`."""
        self._fail(ClosedError(1000, "the connection was closed"))
        self._left = True
        self._waiting.cancel()

    async def _frame(self) -> str | bytes:
        """The next frame. Raises ClientError and ConnectionClosed."""
        self._waiting_since = trio.current_time()
        with trio.CancelScope() as self._waiting:
            if not self._left:
                return await self._ws.get_message()
        raise self._failure or ClosedError(1000, "the connection was closed")

    def _fail(self, error: ClientError) -> ClientError:
        """Keep the first failure, which is the cause of all later ones."""
        if self._failure is None:
            self._failure = error
        return self._failure

    async def _abort(self) -> None:
        """Drop the socket without a closing handshake."""
        with trio.CancelScope(shield=True) as scope:
            scope.cancel()
            await self._ws.aclose()


@asynccontextmanager
async def connect(url: str, init: SessionInit, within_s: float = inf) -> AsyncGenerator[Connection]:
    """A connection whose session has begun, or goes on; closed at the end of the block.

    Each step may take `within_s` at most. Raises ConnectError, RefusedError, SilentError or ClosedError.
    """
    async with AsyncExitStack() as stack:
        try:
            ws = await stack.enter_async_context(
                dial.websocket(
                    url, connect_seconds=min(CONNECT_S, within_s), max_message_bytes=MAX_MESSAGE_BYTES
                )
            )
        except dial.AddressError as error:
            raise ConnectError(str(error)) from error
        except dial.DialError as error:
            raise ConnectError(f"{error}; is linguad running there? Start it with: linguad serve") from error
        yield Connection(ws, await _introduce(ws, init, min(ACK_S, within_s)))


def epoch_ms() -> int:
    """Unix time in ms."""
    return time.time_ns() // 1_000_000


async def _introduce(ws: WebSocketConnection, init: SessionInit, within_s: float) -> SessionInitAck:
    try:
        with trio.fail_after(within_s):
            await ws.send_message(codec.encode(init))
            answer = codec.server_messages.decode(await ws.get_message())
    except trio.TooSlowError:
        raise SilentError(f"the server gave no session within {within_s:g} s") from None
    except ConnectionClosed:
        raise _closed(ws) from None
    except WireError as error:
        raise RefusedError(error.code, f"the server's answer makes no sense: {error}") from error
    match answer:
        case SessionInitAck(session_id=session_id) if session_id:
            return answer
        case ErrorMessage():
            raise RefusedError(answer.code, f"the server refused: {answer.message} ({answer.code})")
        case _:
            raise RefusedError("INVALID_MESSAGE", "the server's first message gives no session")


def _closed(ws: WebSocketConnection) -> ClosedError:
    code, reason = (ws.closed.code, ws.closed.reason) if ws.closed is not None else (1006, None)
    if code == 1006:
        return ClosedError(code, "the connection to the server broke")
    return ClosedError(code, f"the server closed the connection ({code}{f': {reason}' if reason else ''})")
