"""All sockets of `/v1/stream`: who is let in, who may stay, and how they end (gateway 6, 8, 11.4)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio

from linguad import log, metrics
from linguad.config.gateway import Gateway
from linguad.core.tenant import Tenant
from linguad.errors import CloseReason
from linguad.gateway.access.admission import Admission
from linguad.gateway.access.credentials import ASK_FOR_KEY, Headers
from linguad.gateway.access.protect import Doorkeeper
from linguad.gateway.speech.sound import Sounds
from linguad.gateway.speech.talk import Talks
from linguad.gateway.speech.translate import trace_of
from linguad.gateway.stream.conversation import Phase
from linguad.gateway.stream.rules import StreamRules
from linguad.gateway.stream.socket import (
    Desk,
    Dialect,
    Emit,
    Hint,
    JsonDialect,
    Meter,
    StreamSocket,
    Unmetered,
    Visitor,
)
from linguad.gateway.stream.voices import Voices
from linguad.net.upgrade import Refusal, UpgradeRequest, Welcome
from linguad.net.websocket import Link, LinkSettings
from linguad.web import app
from linguad.web.problems import Problem

WATCH_SECONDS = 2.0
"""How often it is looked whether the callers of open sockets may still call; at most 5 are promised."""

logger = log.get(__name__)


class Streams:
    """Mutable: the open sockets, and whether the server is about to stop."""

    def __init__(
        self,
        doorkeeper: Doorkeeper,
        admission: Admission,
        talks: Talks,
        sounds: Sounds,
        settings: Gateway,
        emit: Emit = lambda tenant_id, kind, data: None,
        meter: Meter | None = None,
        hint: Hint = lambda src_lang, tgt_lang: {},
    ) -> None:
        """`emit` gets `session.started` and `session.ended`, for webhooks; `hint` is of `Capacity`."""
        self._settings = settings
        self._doorkeeper = doorkeeper
        self._admission = admission
        self._desk = Desk(
            doorkeeper, admission, talks, Voices(sounds), rules_of(settings), meter or Unmetered(), hint, emit
        )
        self._sockets: set[StreamSocket] = set()
        self._stopping = False
        for phase in Phase:
            metrics.STREAMS.labels(phase.value).set_function(self._counter(phase))

    def __len__(self) -> int:
        return len(self._sockets)

    async def doorman(self, request: UpgradeRequest) -> Welcome | Refusal:
        """Answer an upgrade request to `/v1/stream`."""
        return await self.let_in(request, request_id_of(request), JsonDialect())

    async def let_in(
        self,
        request: UpgradeRequest,
        request_id: str,
        dialect: Dialect,
        headers: Headers | None = None,
        check: Callable[[Tenant], object] = lambda tenant: None,
    ) -> Welcome | Refusal:
        """Answer an upgrade request of a client that speaks this dialect, with other `headers` if given.

        `check` may raise Problem for what a tenant may not ask for.
        """
        try:
            entry = await self._doorkeeper.upgrade(headers or request.headers, request.query, request.peer)
            if entry.caller is not None:
                check(entry.caller.tenant)
            else:
                self._check_strangers(dialect)
        except Problem as problem:
            return refusal(problem, request_id)
        visitor = Visitor(entry, request_id, trace_id_of(request), dialect)
        return Welcome(visitor, entry.subprotocol, (("X-Request-Id", request_id),))

    async def talk(self, link: Link) -> None:
        """Serve one socket to its end."""
        visitor = link.visitor
        assert isinstance(visitor, Visitor), "the doorman leaves one"
        socket = StreamSocket(self._desk, link, visitor)
        self._sockets.add(socket)
        try:
            if self._stopping:
                socket.stop()
            await socket.run()
        finally:
            self._sockets.discard(socket)
            socket.end()

    async def run(self) -> None:
        """Watch who may stay, tell what it costs, and make speech, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._desk.voices.run)
            while True:
                await trio.sleep(WATCH_SECONDS)
                self._each(self._look)

    def stop(self) -> None:
        """The server is about to stop: what was said is still answered, then sockets close with 1001."""
        self._stopping = True
        self._each(StreamSocket.stop)

    def abandon(self) -> None:
        """The server stops now: say so, session by session, and close."""
        self._stopping = True
        self._each(StreamSocket.abandon)

    def _each(self, do: Callable[[StreamSocket], object]) -> None:
        """Do something to all sockets; a bug in one ends that one, neither the others nor the server."""
        for socket in tuple(self._sockets):
            try:
                do(socket)
            except Exception as error:
                metrics.LINK_CRASHES.labels("stream").inc()
                logger.error("connection_crashed", kind="stream", exc_info=error)
                socket.crashed()

    def _look(self, socket: StreamSocket) -> None:
        """Close a socket whose tenant or key is not valid any more, or has used up its quota."""
        if socket.caller is None:
            return
        try:
            now = self._admission.take_up(socket.caller)
        except Problem as problem:
            forbidden = problem.status == 403
            socket.expel(problem, CloseReason.FORBIDDEN if forbidden else CloseReason.UNAUTHENTICATED)
        else:
            socket.meter(now.tenant)

    def _check_strangers(self, dialect: Dialect) -> None:
        """Raise Problem 401 or 429 if another socket may not open before it says who it is."""
        if not self._settings.stream_allow_first_message_auth or dialect.start is not None:
            message = "Send your API key as Authorization: Bearer KEY, or a ticket in the address."
            raise Problem(401, "unauthorized", message, headers=ASK_FOR_KEY)
        if self._count(Phase.STRANGER) >= self._settings.stream_max_unauthenticated:
            message = "Too many connections have not said who they are; send a key or a ticket with yours."
            raise Problem(429, "too_many_unauthenticated", message, headers={"Retry-After": "10"})

    def _count(self, phase: Phase) -> int:
        return sum(socket.phase is phase for socket in self._sockets)

    def _counter(self, phase: Phase) -> Callable[[], int]:
        return lambda: self._count(phase)


def refusal(problem: Problem, request_id: str) -> Refusal:
    """A problem as the answer to an upgrade request."""
    headers = {"Content-Type": "application/json", "X-Request-Id": request_id, **problem.headers}
    return Refusal(problem.status, msgspec.json.encode(problem.body(request_id)), tuple(headers.items()))


def request_id_of(request: UpgradeRequest) -> str:
    """The caller's id of a request, if it is sane, else a new one."""
    return app.request_id_of(next(iter(request.header("x-request-id")), ""))


def trace_id_of(request: UpgradeRequest) -> str | None:
    """The trace that the caller wants its sessions to belong to, a UUID; None if it does not say."""
    return trace_of(next(iter(request.header("x-trace-id")), ""))


def rules_of(settings: Gateway) -> StreamRules:
    """The limits of a socket, from the settings."""
    return StreamRules(
        start_s=settings.stream_start_seconds,
        idle_s=settings.stream_idle_seconds,
        max_s=settings.stream_max_seconds,
        answer_s=settings.stream_answer_seconds,
        max_inflight=settings.stream_max_inflight_utterances,
        backlog_bytes=settings.stream_backlog_bytes,
        messages_per_s=settings.stream_max_messages_per_second,
        burst=settings.stream_burst_messages,
        max_utterance_s=settings.max_utterance_seconds,
        max_message_bytes=settings.stream_max_message_bytes,
    )


def link_settings(settings: Gateway, handshake_seconds: float, write_seconds: float) -> LinkSettings:
    """The limits of the links that `Streams.talk` serves."""
    return LinkSettings(
        max_message_bytes=settings.stream_max_message_bytes,
        outbox_messages=settings.stream_outbound_queue_messages,
        outbox_bytes=settings.stream_outbound_queue_bytes,
        handshake_seconds=handshake_seconds,
        write_seconds=write_seconds,
        ping_seconds=settings.stream_ping_interval_seconds,
        idle_seconds=settings.stream_silent_seconds,
        full=CloseReason.SLOW_CONSUMER,
    )
