"""How a connection comes to a session: a new one, its own, or that of a gateway (session-protocol 1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec.structs import replace

from linguad import log, metrics
from linguad.core.job import DIRECT, JobRequest
from linguad.core.outputs import Check, Output
from linguad.core.requests import Standing
from linguad.core.session import Session
from linguad.core.whole import check_chunks
from linguad.errors import CloseReason, ErrorCode, WireError
from linguad.net.peer import TrustedProxies, origin_of
from linguad.sessions.connection import Connection
from linguad.sessions.last import LastSessions
from linguad.sessions.limit import SessionLimit
from linguad.sessions.registry import Entry, Registry
from linguad.wire.session import ClientMessage, Resume, SessionInit, SessionInitAck

WRONG_PAIRING_CODE = (
    "the pairing code is wrong, was used or has expired, or too many wrong ones came from your address; "
    "let the node show a new one, and wait a minute after many tries"
)

logger = log.get(__name__)


Redeem = Callable[[str, str], Awaitable[str | None]]
"""Gives the node of a pairing code to a client from some origin; "" if it is wrong, None if nobody knows."""


def paired_by(init: SessionInit) -> str:
    """The pairing code that a client gives, "" if none."""
    return (init.pairing_code or "").strip()


class NodeDesk(Protocol):
    """What is asked of the nodes when a session begins."""

    def redeem(self, pairing_code: str, origin: str) -> str:
        """The node that a code stands for; "" if none."""
        ...

    def unsupported_features(self, request: JobRequest) -> list[str]:
        """The features such jobs ask for, if they are required and no node has them."""
        ...


class Reception:
    """Answers every `session_init`; the acknowledgement is the first frame of a session on its connection."""

    def __init__(
        self,
        sessions: Registry,
        nodes: NodeDesk,
        new_session: Callable[[SessionInit, Standing], Session],
        perform: Callable[[Entry, list[Output]], None],
        limit: SessionLimit,
        trusted: TrustedProxies,
        last: LastSessions,
        now: Callable[[], float],
    ) -> None:
        """`now` is the clock, monotonic s."""
        self._sessions = sessions
        self._nodes = nodes
        self._new_session = new_session
        self._perform = perform
        self._limit = limit
        self._trusted = trusted
        self._last = last
        self._now = now

    def welcome(self, connection: Connection, init: SessionInit, node_id: str | None = None) -> None:
        """A client says hello: it goes on with the session that it names and can open, else begins one.

        `node_id` is the node of its pairing code, "" if that is wrong; None if only this instance can tell.
        """
        resume = init.resume or Resume()
        if (entry := self._resumable(connection, resume)) is not None:
            self._resume(connection, entry, resume.delivery)
        elif refusal := self._limit.refusal(connection.address):
            connection.refuse(ErrorCode.NODE_OVERLOADED, refusal)
            connection.close(CloseReason.TOO_MANY_SESSIONS)
        else:
            self._begin(connection, init, resume, node_id)

    def adopted(self, connection: Connection, message: ClientMessage) -> Session | None:
        """The session that a connection without one speaks for by naming it (1.11).

        Only the earlier API gateway may, which opens a connection for each utterance; the newest one counts,
        even if what an older one said comes after it.
        """
        entry = self._sessions.get(getattr(message, "session_id", ""))
        if entry is None or not entry.session.is_gateway:
            return None
        current = entry.connection
        if current is not None and current.opened_at > connection.opened_at:
            return None
        self._sessions.attach(entry, connection)
        entry.session.attach(self._now())
        logger.info("session_adopted", session=entry.session.id, link=connection.id)
        return entry.session

    def turn_away(self, connection: Connection, message: ClientMessage) -> None:
        """A message before `session_init`; naming an unknown session ends the socket (resolution 18)."""
        named = getattr(message, "session_id", None)
        if named is None:
            connection.refuse(ErrorCode.INVALID_SESSION, "send session_init first")
        elif named and named == connection.former:
            # it was on its way when the session ended; the socket may go on with another one (2.2.5)
            connection.refuse(ErrorCode.SESSION_CLOSED, "the session is over; send session_init first")
        else:
            problem = "no such session here; send session_init first"
            connection.refuse(ErrorCode.INVALID_SESSION, problem)
            connection.close(CloseReason.INVALID_SESSION)

    def _begin(self, connection: Connection, init: SessionInit, resume: Resume, node_id: str | None) -> None:
        address = connection.address
        origin = origin_of(address)
        tenant = connection.tenant or (init.tenant_id if address in self._trusted else None) or DIRECT
        code = paired_by(init)
        if node_id is None:
            node_id = self._nodes.redeem(code, origin) if code else ""
        standing = Standing(
            tenant=tenant,
            node_id=node_id,
            origin=origin,
            key_id=connection.key_id,
            answer_by=connection.answer_by,
            told_all=connection.told_all,
        )
        session = self._new_session(init, standing)
        entry = self._sessions.add(session, connection)
        connection.allow_pings(not session.is_gateway)
        connection.send(self._hello(session, resume))
        if code and not node_id:
            connection.refuse(ErrorCode.INVALID_PAIRING_CODE, WRONG_PAIRING_CODE, "pairing_code")
        try:
            check_chunks(init)
        except WireError as error:
            connection.refuse(error.code, str(error), error.field)
        if missing := self._nodes.unsupported_features(session.request):
            problem = f"no node has what this session asks for: {', '.join(missing)}"
            connection.refuse(ErrorCode.UNSUPPORTED_FEATURE, problem, "features")
        logger.info(
            "session_opened",
            session=session.id,
            trace=session.trace_id,
            link=connection.id,
            platform=init.platform,
            client_version=init.client_version,
            src=init.src_lang,
            tgt=init.tgt_lang,
            paired_with=node_id or None,
        )
        self._perform(entry, [Check()])

    def _hello(self, session: Session, resume: Resume) -> SessionInitAck:
        """The acknowledgement of a new session; its client may have wanted another one."""
        hello = session.hello()
        if resume.session_id is None:
            return hello
        metrics.RESUMES.labels("false").inc()
        last = self._last.take(resume.session_id, resume.resume_token or "")
        if last is None:
            return replace(hello, recovered=False)
        index = last.last_utterance_index if last.last_utterance_index >= 0 else None
        return replace(hello, recovered=False, delivery=last.delivery, last_utterance_index=index)

    def _resumable(self, connection: Connection, resume: Resume) -> Entry | None:
        """The session that a client may go on with; one of which results are lost ends (resolution 17)."""
        entry = self._sessions.get(resume.session_id or "")
        if entry is None or not entry.session.opens(resume):
            return None
        if entry.session.can_follow(resume.delivery):
            return entry
        before = self._sessions.detach(entry)
        if before is not None and before is not connection:
            before.close(CloseReason.SUPERSEDED)
        self._perform(entry, entry.session.end(self._now()))
        return None

    def _resume(self, connection: Connection, entry: Entry, delivery: int) -> None:
        """A client goes on where it was; a connection that is not yet seen to be lost is closed."""
        session = entry.session
        before = self._sessions.attach(entry, connection)
        if before is not None and before is not connection:
            before.close(CloseReason.SUPERSEDED)
        metrics.RESUMES.labels("true").inc()
        connection.allow_pings(True)
        session.attach(self._now())
        connection.send(session.hello_again())
        logger.info("session_resumed", session=session.id, link=connection.id)
        self._perform(entry, session.resumed(delivery))
