"""One connection to Redis that all tasks share.

Commands of any number of tasks are written in one buffer and answered in order. Whatever could shift replies
(a late one, a torn stream, bytes that are not RESP3) ends the connection; all who wait are told at once, and
the link connects again by itself. Nothing is sent twice unless the caller says that this does no harm.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from math import inf

import hiredis
import trio

from linguad import log
from linguad.metrics import REDIS_CIRCUIT, REDIS_CONNECTS, REDIS_OPS, REDIS_SECONDS, child, timer
from linguad.net.bell import Bell
from linguad.net.redis.address import Address, Stream, open_stream
from linguad.net.redis.call import Call
from linguad.net.redis.circuit import Circuit
from linguad.net.redis.errors import RedisAway, RedisError, RedisRefusal
from linguad.net.redis.greeting import READ_BYTES, Greeting, Unusable, greet
from linguad.net.redis.manners import Words, check, confirmations, name_of, pack
from linguad.net.redis.reasons import Lost, why
from linguad.net.redis.replies import ProtocolBroken, Push, Replies
from linguad.net.redis.status import Limits, Status

PING_S = 5.0
"""A connection that was silent for so long is asked whether it still lives, s: a server that vanished is
noticed before somebody needs it."""

UNREAD_S = 0.05
"""A late reply may be there and only not be read, because this process stood still: so long is given, s."""

BATCH_BYTES = 256 * 1024
"""Commands are joined to about so much for one write; joining all that waits could take long."""

Resolver = Callable[[], Awaitable[Address]]
"""Where to connect to now; asked before each attempt. May raise RedisError or OSError."""

logger = log.get(__name__)


_ENDS = (Lost, ProtocolBroken, trio.BrokenResourceError, trio.ClosedResourceError)


class Link:
    """Mutable state: the circuit, the connection if there is one, and the commands that wait for replies.

    `run` must run in a task; calls fail at once whenever there is no connection.
    """

    def __init__(
        self,
        resolve: Resolver,
        limits: Limits,
        *,
        name: str,
        client_name: str,
        cluster: bool = False,
        on_push: Callable[[Push], object] | None = None,
        leave_on: frozenset[str] = frozenset({"READONLY"}),
    ) -> None:
        """`name` is the label in logs and metrics, `client_name` what CLIENT LIST shows (blanks become `_`).

        With `on_push`, which must not raise, it takes subscriptions and blocking reads. After an error whose
        code is in `leave_on` the server is left and `resolve` asked again.
        """
        self.name = name
        self.limits = limits
        self._resolve = resolve
        self._client_name = client_name
        self._cluster = cluster
        self._listening = on_push is not None
        self._on_push = on_push or _ignore
        self._leave_on = leave_on
        self._circuit = Circuit()
        self._address: Address | None = None
        self._greeting: Greeting | None = None
        self._reason = "no attempt was made yet"
        self._logged_reason = ""
        self._away_since = trio.current_time()
        self._pause_s = 0.0
        self._up, self._down = trio.Event(), trio.Event()
        self._down.set()
        self._tried = trio.Event()
        self._replies: Replies[Call] = Replies(self._on_push)
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._number = 0
        """Of the newest command."""
        self._sent_number = 0
        """Of the newest command that the connection has taken, or begun to take."""
        self._bell = Bell()
        self._heard_at = 0.0
        self._scope: trio.CancelScope | None = None
        """Of the tasks that carry commands; None while there is no connection."""
        self._cut_reason = ""

    @property
    def up(self) -> bool:
        """Whether there is a connection."""
        return self._scope is not None and not self._cut_reason

    def status(self) -> Status:
        """What is to be known about the link now."""
        return Status(
            name=self.name,
            state=self._circuit.state,
            server=self._server,
            version=self._greeting.version if self._greeting else "",
            reason="" if self.up else self._reason,
            failures=self._circuit.failures,
            pending=len(self._replies.pending),
            unsent_bytes=self._unsent_bytes,
        )

    async def wait_up(self) -> trio.Event:
        """Wait until there is a connection, and give the event of its end."""
        await self._up.wait()
        return self._down

    async def wait_tried(self) -> None:
        """Wait until the first attempt to connect has come to something."""
        await self._tried.wait()

    async def call(
        self, words: Words, *, seconds: float | None = None, repeatable: bool = False, op: str = ""
    ) -> object:
        """Send one command and wait for its reply, at most `seconds` (else as the limits say).

        `op` names it in metrics, if not its first word. Raises RedisAway if there is no connection, if it is
        lost meanwhile or the reply is late, RedisRefusal if Redis answers with an error, ValueError or
        TypeError for what must not be sent. With `repeatable` a command that was lost is sent once more over
        the next connection, within the same time.
        """
        if not repeatable:
            return await self._once(words, seconds, op)
        until = trio.current_time() + (self.limits.command_seconds if seconds is None else seconds)
        try:
            return await self._once(words, seconds, op)
        except RedisAway:
            if trio.current_time() >= until:
                raise
            with trio.move_on_at(until) as scope:
                await self.wait_up()
            if scope.cancelled_caught:
                raise
        return await self._once(words, until - trio.current_time(), op)

    async def call_all(self, commands: Sequence[Words]) -> list[object]:
        """Send commands in one row and give their replies; a refused one has its RedisRefusal in the list.

        All or none of them are sent, but what is sent is no transaction. Raises as `call` does.
        """
        replies: list[object] = []
        for call in await self._submitted(commands, None, ""):
            try:
                replies.append(await call.reply())
            except RedisRefusal as error:
                replies.append(error)
        return replies

    def cut(self, reason: str) -> None:
        """Give the connection up, if there is one, and make another."""
        if self._scope is not None:
            self._cut_reason = self._cut_reason or reason
            self._renew_up()
            self._scope.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the connection until cancelled; started at once, whether Redis is there or not."""
        task_status.started()
        try:
            while True:
                self._circuit.attempt()
                REDIS_CIRCUIT.labels(self.name).set(self._circuit.state.value)
                try:
                    stream = await self._connect()
                except Lost as error:
                    self._lose(str(error))
                else:
                    await self._serve(stream)
                self._tell_away()
                await trio.sleep(self._pause_s)
        finally:
            # links to nodes of a cluster come and go, the numbers of those that went would stay
            REDIS_CIRCUIT.remove(self.name)

    @property
    def _server(self) -> str:
        return self._address.shown if self._address else ""

    async def _once(self, words: Words, seconds: float | None, op: str) -> object:
        (call,) = await self._submitted((words,), seconds, op)
        if seconds is None or seconds >= self.limits.command_seconds:
            return await call.reply()
        # The watch looks as often as the usual limit needs it, and this one is shorter.
        with trio.move_on_at(call.deadline):
            return await call.reply()
        with trio.move_on_after(UNREAD_S):
            return await call.reply()
        self.cut(call.late)
        raise RedisAway(f"Redis at {self._server}: {call.late}", sent=call.number <= self._sent_number)

    async def _submitted(self, commands: Sequence[Words], seconds: float | None, op: str) -> list[Call]:
        try:
            return self._submit(commands, seconds, op)
        except RedisAway:
            # who asks again and again must not keep the link from connecting
            await trio.lowlevel.checkpoint()
            raise

    def _submit(self, commands: Sequence[Words], seconds: float | None, op: str) -> list[Call]:
        """Put commands into the buffer, all or none."""
        limits, pending = self.limits, self._replies.pending
        now = trio.current_time()
        wait = limits.command_seconds if seconds is None else seconds
        calls, packed = [], []
        for number, words in enumerate(commands, self._number + 1):
            name = name_of(words)
            block = check(name, words, listening=self._listening)
            confirms = confirmations(name, words) if self._listening else 0
            packed.append(pack(words))
            calls.append(Call(name, op or name, confirms, number, now, wait + block, self._settled))
        if not self.up:
            reason = self._cut_reason or self._reason
            raise RedisAway(f"Redis{self._server and ' at '}{self._server} is away: {reason}", sent=False)
        size = sum(map(len, packed))
        if len(pending) + len(packed) > limits.pending or self._unsent_bytes + size > limits.unsent_bytes:
            raise RedisAway(f"Redis at {self._server} is too slow, too much waits for it already", sent=False)
        self._number += len(calls)
        pending.extend(calls)
        self._unsent.extend(packed)
        self._unsent_bytes += size
        self._bell.ring()
        return calls

    def _settled(self, call: Call) -> None:
        """Count an answer, and leave a server that is no longer the right one."""
        op, lost = call.op.lower(), isinstance(call.answer, RedisAway)
        refused = isinstance(call.answer, hiredis.ReplyError)
        child(REDIS_OPS, op, "err" if lost or refused else "ok").inc()
        if not lost and not self._listening:
            timer(REDIS_SECONDS, op).observe(self._heard_at - call.began_at)
        if refused and (code := str(call.answer).partition(" ")[0]) in self._leave_on:
            self.cut(f"it answered {call.name} with {code}")

    async def _connect(self) -> Stream:
        """A connection that is logged in. Raises Lost."""
        seconds = self.limits.connect_seconds
        outcome = "failed"
        try:
            with trio.fail_after(seconds):
                self._address = address = await self._resolve()
                stream = await open_stream(address, self.limits.command_seconds)
                try:
                    self._greeting = await greet(stream, address, self._client_name, cluster=self._cluster)
                except BaseException:
                    await trio.aclose_forcefully(stream)
                    raise
            outcome = "connected"
        except trio.TooSlowError:
            raise Lost(f"it did not answer within {seconds:g} s") from None
        except Unusable as error:
            outcome = "unusable"
            raise Lost(str(error)) from error
        except (OSError, trio.BrokenResourceError, RedisError) as error:
            raise Lost(why(error)) from error
        finally:
            REDIS_CONNECTS.labels(self.name, outcome).inc()
        return stream

    async def _serve(self, stream: Stream) -> None:
        """Carry commands until the connection is lost."""
        reason = "this process gives it up"
        try:
            async with trio.open_nursery() as nursery:
                self._begin(nursery.cancel_scope)
                nursery.start_soon(self._read, stream)
                nursery.start_soon(self._write, stream)
                nursery.start_soon(self._watch)
            reason = self._cut_reason
        except* _ENDS as group:
            reason = self._cut_reason or why(group)
        finally:
            self._scope = None
            self._lose(reason)
            await trio.aclose_forcefully(stream)

    def _begin(self, scope: trio.CancelScope) -> None:
        """From now on calls go through."""
        now = trio.current_time()
        self._scope, self._cut_reason = scope, ""
        self._sent_number = self._number
        self._heard_at = now
        self._circuit.connected(now)
        self._up.set()
        self._tried.set()
        self._down = trio.Event()
        self._logged_reason = ""
        REDIS_CIRCUIT.labels(self.name).set(self._circuit.state.value)
        logger.info(
            "redis_up",
            link=self.name,
            server=self._server,
            version=self._greeting.version if self._greeting else "",
            away_s=round(now - self._away_since, 1),
        )

    def _lose(self, reason: str) -> None:
        """From now on calls fail; those that wait are told that their replies will not come."""
        now = trio.current_time()
        if self._greeting is not None:
            self._away_since = now
        self._reason, self._cut_reason = reason, ""
        self._greeting = None
        self._pause_s = self._circuit.lost(now)
        REDIS_CIRCUIT.labels(self.name).set(self._circuit.state.value)
        pending, self._replies = self._replies.pending, Replies(self._on_push)
        self._unsent, self._unsent_bytes = deque(), 0
        self._renew_up()
        self._tried.set()
        self._down.set()
        text = f"Redis at {self._server} was lost before it answered: {reason}"
        for call in pending:
            call.settle(RedisAway(text, sent=call.number <= self._sent_number))

    def _renew_up(self) -> None:
        """Who waits for a connection from now on waits for the next one."""
        if self._up.is_set():
            self._up = trio.Event()

    def _tell_away(self) -> None:
        """Log why Redis is away, once as long as the reason stays the same."""
        if self._reason != self._logged_reason:
            self._logged_reason = self._reason
            logger.warning("redis_away", link=self.name, server=self._server, reason=self._reason)

    async def _read(self, stream: Stream) -> None:
        replies = self._replies
        while data := await stream.receive_some(READ_BYTES):
            self._heard_at = trio.current_time()
            replies.feed(data)
        raise Lost("it closed the connection")

    async def _write(self, stream: Stream) -> None:
        while True:
            if not self._unsent:
                await self._bell.wait()
            batch, size = [], 0
            while self._unsent and size < BATCH_BYTES:
                batch.append(self._unsent.popleft())
                size += len(batch[-1])
            self._sent_number += len(batch)
            await stream.send_all(b"".join(batch))
            self._unsent_bytes -= size

    async def _watch(self) -> None:
        """End the connection when a reply is late; ask for a sign of life when nothing is waited for."""
        look_s = min(self.limits.command_seconds, PING_S)
        while True:
            now, pending = trio.current_time(), self._replies.pending
            late = next((call for call in pending if call.deadline <= now), None)
            if late is not None:
                await trio.sleep(UNREAD_S)
                if late in pending:
                    raise Lost(late.late)
                continue
            if not pending and self.up and now - self._heard_at >= PING_S:
                self._submit((("PING",),), None, "")
            nearest = min((call.deadline for call in pending), default=inf)
            # what is called from now on has at least as long, or a timer of its own
            await trio.sleep_until(min(nearest, now + look_s))


def _ignore(_push: Push) -> None:
    """For links that do not listen: Redis pushes nothing to them that they asked for."""
