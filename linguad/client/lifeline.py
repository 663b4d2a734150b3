"""Keeps a session alive over its connections: what is to be sent leaves, what is said arrives, once.

Rules:
- One task connects, reads, and connects again; beside it, as long as a connection lives, one task writes, one
  acknowledges results and one sends heartbeats.
- A connection ends where its messages end: what the server said before that is handed over first.
- A result that waits for the application is handed over and acknowledged: only the end of this process could
  take it away. Until the acknowledgement is there, a server that is lost leaves its speech to be heard twice.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable

import trio
from msgspec import Struct
from msgspec.structs import replace

from linguad.client.backoff import Backoff
from linguad.client.connection import Connection, connect
from linguad.client.errors import ClientError, ClosedError, GaveUpError, RefusedError
from linguad.client.ledger import KEPT_BYTES, Chunk, Entry, Ledger
from linguad.errors import CloseReason
from linguad.wire import binary, codec
from linguad.wire.session import (
    AudioAck,
    AudioChunk,
    Backpressure,
    ClientMessage,
    GoAway,
    MissingResult,
    ResultAck,
    Resume,
    ServerMessage,
    SessionClose,
    SessionCloseAck,
    SessionInit,
    SessionInitAck,
    SessionUpdateAck,
    TranslationResult,
)

CLOSE_S = 5.0
"""Deadline for `session_close_ack` and for the closing handshake, each, s."""

MAX_PAUSE_S = 10.0
"""Longest pause obeyed on one `backpressure`; servers ask for 1 to 3 s and repeat it, s."""

MAX_EVENTS = 256
"""Events held for an application that does not read; when full, the socket is no longer read."""

GIVE_UP_MARGIN_S = 30.0
"""How much longer than a session is kept a lost connection is tried again: the server may restart, s."""


class Reconnected(Struct, frozen=True):
    """The connection was lost, and there is another one.

    With `recovered` the session goes on. Else it is a new one, in no room, whose indexes begin anew; what was
    not settled was sent again, and with it, at worst, what had its result after one that is missing. `lost`
    chunks or utterances, at most, could not be sent again, because too much had to be kept.
    """

    recovered: bool
    session_id: str
    lost: int = 0


Event = ServerMessage | Reconnected
"""What the application is told."""


class Lifeline:
    """Mutable state of one session: its connection, if there is one, and what goes over it both ways."""

    def __init__(self, url: str, init: SessionInit, give_up_s: float | None) -> None:
        """`give_up_s` is how long a lost connection is tried again; None leaves it to the server."""
        self.session_id = ""
        self.trace_id = ""
        self.assigned_node_id: str | None = None
        self._url = url
        self._init = init
        self._give_up_s = give_up_s
        self._token: str | None = None
        self._binary = False
        self._former_ids: set[str] = set()
        self._ledger = Ledger(init, keeps=init.resume is not None, limit=KEPT_BYTES)
        self._events: deque[Event] = deque()
        self._received = self._acknowledged = 0
        self._connection: Connection | None = None
        self._leaving = False
        self._paused_until = 0.0
        self._failure: ClientError | None = None
        self._closing = False
        self._close_acknowledged = False
        self._ended = False
        self._life = trio.CancelScope()
        self._changed = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, and stay connected until `close`; starts when the session is open.

        Raises ClientError if it cannot be opened.
        """
        try:
            with self._life:
                self._fail(await self._live(task_status))
        finally:
            self._ended = True
            self._tell()

    async def room(self) -> None:
        """Wait until more audio may be added. Raises ClientError."""
        await trio.lowlevel.checkpoint()
        await self._until(lambda: self._ledger.has_room or self._over)
        self.check()

    def add(self, what: Chunk | ClientMessage) -> Entry:
        """Something is to be sent after all that was added before."""
        entry = self._ledger.add(what)
        self._tell()
        return entry

    async def sent(self, entry: Entry) -> None:
        """Wait until it has left; what is kept is not waited for without a connection. Raises ClientError."""
        await trio.lowlevel.checkpoint()
        await self._until(lambda: entry.sent or self._over or (entry.kept and not self._flows))
        if not entry.sent:
            self.check()

    def check(self) -> None:
        """Raise ClientError if nothing can be sent any more."""
        if self._over:
            raise self._failure or ClosedError(1000, "the session is closed")

    async def receive(self) -> Event:
        """The next event; may be cancelled without losing one. Raises ClientError behind the last."""
        await trio.lowlevel.checkpoint()
        await self._until(lambda: self._events or self._closing or self._ended)
        if not self._events:
            raise self._failure or ClosedError(1000, "the session is closed")
        event = self._events.popleft()
        self._tell()
        return event

    @property
    def closing(self) -> bool:
        """Whether `close` was called."""
        return self._closing

    async def close(self, reason: str) -> bool:
        """End the session; true if the server acknowledged it in time. Events not read yet are dropped."""
        if self._closing or self._failure is not None:
            return self._close_acknowledged
        self._closing = True
        self._events.clear()
        self._tell()
        if (connection := self._connection) is not None:
            with trio.move_on_after(CLOSE_S):
                try:
                    await connection.send(
                        codec.encode(SessionClose(session_id=self.session_id, reason=reason))
                    )
                    await self._until(lambda: self._ended)
                except ClientError:
                    pass
            connection.end()
            with trio.move_on_after(CLOSE_S):
                await self._until(lambda: self._ended)
        self._life.cancel()
        return self._close_acknowledged

    async def _live(self, task_status: trio.TaskStatus[None]) -> ClientError:
        """One connection after the other; returns why there will be no more."""
        async with connect(self._url, self._hello()) as connection:
            connected_at = trio.current_time()
            self._begin(connection.ack)
            give_up_s = (connection.ack.resume_within_ms or 0) / 1000 + GIVE_UP_MARGIN_S
            if self._token is None:
                self._ledger = Ledger(self._init, keeps=False, limit=KEPT_BYTES)
            task_status.started()
            loss = await self._converse(connection)
        backoff = Backoff(give_up_s if self._give_up_s is None else self._give_up_s)
        backoff.connected(connected_at)
        while self._token is not None and not self._closing and not _is_final(loss):
            pause = backoff.lost(trio.current_time())
            if pause is None:
                lost = f"the connection to {self._url} was lost and is not back after {backoff.give_up_s:g} s"
                return GaveUpError(f"{lost}: {loss}")
            await trio.sleep(pause)
            try:
                within_s = max(backoff.left(trio.current_time()), 1.0)
                async with connect(self._url, self._hello(), within_s) as connection:
                    backoff.connected(trio.current_time())
                    if self._init.pairing_code and not connection.ack.recovered:
                        problem = "the session was paired with a node and is gone; a new one needs a new code"
                        return RefusedError("INVALID_PAIRING_CODE", problem)
                    self._begin_again(connection.ack)
                    loss = await self._converse(connection)
            except ClientError as error:
                loss = error
        return loss

    def _hello(self) -> SessionInit:
        if self._token is None:
            return self._ledger.init
        resume = Resume(session_id=self.session_id, resume_token=self._token, delivery=self._received)
        return replace(self._ledger.init, resume=resume)

    def _begin(self, ack: SessionInitAck) -> None:
        self.session_id, self.trace_id = ack.session_id, ack.trace_id
        self.assigned_node_id = ack.assigned_node_id
        self._token = ack.resume_token
        self._binary = ack.use_binary_frame and bool(self._init.use_binary_frame)
        self._leaving = False

    def _begin_again(self, ack: SessionInitAck) -> None:
        """The same session on another connection, or a new one that gets all that is not settled."""
        recovered = bool(ack.recovered)
        if recovered:
            self._acknowledged = self._received
            lost = self._ledger.go_on(ack.audio_seq)
        else:
            self._former_ids.add(self.session_id)
            self._received = self._acknowledged = 0
            lost = self._ledger.begin_anew()
        self._begin(ack)
        self._events.append(Reconnected(recovered, ack.session_id, lost))

    async def _converse(self, connection: Connection) -> ClientError:
        """Use a connection until it ends; returns why."""
        async with trio.open_nursery() as nursery:
            self._connection = connection
            self._tell()
            nursery.start_soon(self._write, connection)
            nursery.start_soon(self._acknowledge, connection)
            nursery.start_soon(connection.beat)
            try:
                await self._read(connection, nursery)
            except ClientError as error:
                return error
            finally:
                self._connection = None
                self._tell()
                nursery.cancel_scope.cancel()
        return ClosedError(1000, "the session is closed")

    async def _read(self, connection: Connection, nursery: trio.Nursery) -> None:
        """Take what the server says, until it acknowledges the end of the session."""
        while True:
            message = await connection.receive()
            match message:
                case SessionCloseAck():
                    self._close_acknowledged = True
                    return
                case TranslationResult() | MissingResult():
                    await self._take_result(message)
                    continue
                case AudioAck():
                    self._ledger.audio_settled(message.seq)
                    self._tell()
                    continue
                case SessionUpdateAck():
                    self._ledger.updated()
                case Backpressure():
                    pause_s = min(message.resume_after_ms / 1000, MAX_PAUSE_S)
                    self._paused_until = trio.current_time() + pause_s
                case GoAway():
                    nursery.start_soon(self._leave, connection, message.time_left_ms / 1000)
            await self._hand_over(message)

    async def _take_result(self, result: TranslationResult | MissingResult) -> None:
        """Hand over a result that was not there before."""
        if result.delivery is not None and result.delivery <= self._received:
            return
        await self._hand_over(result)
        self._received = result.delivery or self._received
        if result.session_id == self.session_id:
            reason = result.reason if isinstance(result, MissingResult) else None
            self._ledger.answered(result.utterance_index, reason)
        self._tell()

    async def _hand_over(self, message: ServerMessage) -> None:
        """Have the application told, at its own pace, which has no deadline.

        What has come of a connection that is lost is not waited with, for the next one is needed.
        """
        await self._until(lambda: len(self._events) < MAX_EVENTS or self._closing or self._connection is None)
        if not self._closing:
            self._events.append(message)
            self._tell()

    async def _write(self, connection: Connection) -> None:
        """Send what is due, in order."""
        ledger = self._ledger
        try:
            while True:
                await self._until(lambda: ledger.next is not None and self._flows)
                entry = ledger.next
                assert entry is not None, "that was waited for"
                if isinstance(entry.what, Chunk):
                    await trio.sleep_until(self._paused_until)
                await connection.send(self._frame(entry.what))
                ledger.mark_sent(entry)
                self._tell()
        except ClientError as error:
            # The reader meets it as well, after what the server has said before.
            self._connection = None
            if self._token is None:
                self._fail(error)
            self._tell()

    async def _acknowledge(self, connection: Connection) -> None:
        """Tell which results are here: the newest stands for all before it."""
        try:
            while self._token is not None:
                await self._until(lambda: self._received > self._acknowledged)
                received = self._received
                await connection.send(codec.encode(ResultAck(session_id=self.session_id, delivery=received)))
                self._acknowledged = received
        except ClientError:
            return

    async def _leave(self, connection: Connection, time_left_s: float) -> None:
        """The server will close the connection: let what was said come to its end, then go elsewhere."""
        self._leaving = True
        self._tell()
        with trio.move_on_after(time_left_s):
            await self._until(lambda: self._ledger.settled and not self._flows)
        connection.end()

    def _frame(self, what: Chunk | ClientMessage) -> str | bytes:
        """What goes over the wire; it names the session that there is now."""
        if not isinstance(what, Chunk):
            if getattr(what, "session_id", None) in self._former_ids:
                what = replace(what, session_id=self.session_id)
            return codec.encode(what)
        if self._binary:
            frame = binary.AudioFrame(
                session_id=self.session_id,
                seq=what.seq,
                audio=what.audio,
                is_final=what.is_final,
                client_timestamp_ms=what.client_timestamp_ms,
            )
            return binary.encode(frame)
        chunk = AudioChunk(
            session_id=self.session_id,
            seq=what.seq,
            is_final=what.is_final,
            payload=base64.b64encode(what.audio).decode(),
            client_timestamp_ms=what.client_timestamp_ms,
        )
        return codec.encode(chunk)

    @property
    def _flows(self) -> bool:
        """Whether what is added now is sent now."""
        return self._connection is not None and (not self._leaving or self._ledger.speaking)

    @property
    def _over(self) -> bool:
        return self._closing or self._ended or self._failure is not None

    def _fail(self, error: ClientError) -> None:
        """Keep the first failure, which is the cause of all later ones; after `close` there is none."""
        if not self._closing and self._failure is None:
            self._failure = error

    def _tell(self) -> None:
        """Wake all that wait for something."""
        self._changed, told = trio.Event(), self._changed
        told.set()

    async def _until(self, holds: Callable[[], object]) -> None:
        while not holds():
            await self._changed.wait()


def _is_final(loss: ClientError) -> bool:
    """Whether another connection would end like this one: a message that is too long would be sent again."""
    return isinstance(loss, ClosedError) and loss.code == CloseReason.MESSAGE_TOO_BIG.code
