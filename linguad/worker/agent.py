"""The node on the wire: it registers, sends heartbeats, takes jobs, sends results (node-protocol 0.3, 1.1).

Like the real node it keeps its id for as long as it runs, sends a heartbeat before it registers again, works
on while the socket is down, drops what finishes then, takes a job id, and an utterance of a session, only
once, and answers the jobs of a session in the order they came.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import msgspec
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from linguad import __version__, log
from linguad.errors import ErrorCode, WireError
from linguad.net.bell import Bell
from linguad.net.dial import DialError, websocket
from linguad.net.outbox import Later, Outbox
from linguad.net.supervise import guarded
from linguad.wire import codec
from linguad.wire.common import FeatureFlags
from linguad.wire.node import (
    HEARTBEAT_ACK,
    HardwareInfo,
    HeartbeatAck,
    JobAssign,
    JobCancel,
    JobError,
    JobResult,
    NodeHeartbeat,
    NodeRegister,
    NodeRegisterAck,
    PairingCode,
    ResourceUsage,
    SchedulerError,
)
from linguad.worker import machine
from linguad.worker.runner import JobFailed, Runner
from linguad.worker.standing import Told

CONNECT_SECONDS = 10.0
"""TCP, TLS and the upgrade are slow only when something is wrong."""

WRITE_SECONDS = 10.0
"""A scheduler that takes not one byte for so long is gone."""

MAX_MESSAGE_BYTES = 100 << 20
"""Receive limit of real nodes (node-protocol 1)."""

ACK_SECONDS = 30.0
"""A scheduler answers a registration at once; without an answer only a new socket helps (0.3 item 3)."""

PONG_SECONDS = 10.0
"""Without an answer to a ping for so long the line is dead, whatever TCP still believes."""

NEWS_SECONDS = 1.0
"""So long changes are gathered before a heartbeat tells them (model-manager 8.1)."""

CLOSE_SECONDS = 2.0
"""How long the scheduler may take to answer our close frame."""

OUTBOX_MESSAGES, OUTBOX_BYTES = 256, 64 << 20
"""What may wait to be sent: more than all results of a busy node while the line stalls."""

MAX_WAITING_JOBS = 16
"""Jobs taken above `max_jobs`, which wait here; a scheduler sends two at most, and only within a turn."""

REMEMBERED = 10_000
"""Ids kept to recognise what comes twice; real nodes keep them all."""

Dial = Callable[[], AbstractAsyncContextManager[WebSocketConnection]]
"""Opens a connection for as long as a block lasts. Raises DialError."""

T = TypeVar("T")
logger = log.get(__name__)


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """How a node behaves; times in seconds."""

    name: str = ""
    """What the node is called in its log."""
    node_id: str | None = None
    """Id to ask for; without one the scheduler gives one."""
    max_jobs: int = 4
    heartbeat_seconds: float = 15.0
    reconnect_seconds: float = 5.0
    """Pause before connecting again, doubled after each failure."""
    longest_reconnect_seconds: float = 60.0


class Agent:
    """One node; `run` is its whole life."""

    def __init__(
        self,
        runner: Runner,
        dial: Dial,
        settings: AgentSettings,
        hardware: HardwareInfo,
        load: machine.Busy | None = None,
    ) -> None:
        """`load` is how busy it says it is; without it, as busy as this machine."""
        self.node_id = settings.node_id
        """Id from the last acknowledgement; None until the first."""
        self._runner = runner
        self._dial = dial
        self._hardware = hardware
        self._settings = settings
        self._log = logger.bind(name=settings.name)
        self._load = load or machine.Load()
        self._outbox: Outbox | None = None
        self._slots = trio.CapacityLimiter(settings.max_jobs)
        self._jobs: dict[str, _OpenJob] = {}
        self._seen_jobs = _Memory()
        self._seen_utterances = _Memory()
        self._pause = settings.reconnect_seconds
        self._told = Told()
        self._news = Bell()

    def hurry(self) -> None:
        """Send a heartbeat soon, because what this node can do has changed."""
        self._news.ring()

    async def run(self, stop: trio.Event) -> None:
        """Stay connected until `stop` is set; then close the connection and drop the jobs."""
        async with trio.open_nursery() as jobs:
            while not stop.is_set():
                # A bug in one connection must not end the jobs, nor keep the node from trying the next one.
                await guarded("scheduler", self._connected, stop, jobs)
                with trio.move_on_after(self._pause):
                    await stop.wait()
                self._pause = min(2 * self._pause, self._settings.longest_reconnect_seconds)
            jobs.cancel_scope.cancel()

    async def _connected(self, stop: trio.Event, jobs: trio.Nursery) -> None:
        """One connection from dialling to its end, for whatever reason it ends."""
        try:
            async with trio.open_nursery() as link:
                ws = await unless(stop, partial(link.start, self._hold))
                if ws is not None:
                    await self._talk(ws, stop, jobs)
                link.cancel_scope.cancel()
        except* (DialError, trio.TooSlowError) as group:
            if not stop.is_set():
                self._log.warning("scheduler_unreachable", reason=_reason(group), retry_in_s=self._pause)

    async def _hold(self, task_status: trio.TaskStatus[WebSocketConnection]) -> None:
        """Dial, and keep the connection until cancelled."""
        async with self._dial() as ws:
            task_status.started(ws)
            await trio.sleep_forever()

    async def _talk(self, ws: WebSocketConnection, stop: trio.Event, jobs: trio.Nursery) -> None:
        self._pause = self._settings.reconnect_seconds
        self._outbox = outbox = Outbox(OUTBOX_MESSAGES, OUTBOX_BYTES)
        acknowledged = trio.Event()
        self._log.info("scheduler_connected", node=self.node_id)
        try:
            async with trio.open_nursery() as nursery:
                for part in (
                    partial(self._read, ws, acknowledged, jobs),
                    partial(_write, ws, outbox),
                    partial(self._introduce, ws, outbox, acknowledged),
                    stop.wait,
                ):
                    nursery.start_soon(_ends, part, nursery.cancel_scope)
        finally:
            self._outbox = None
            self._told.disconnected()
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await ws.aclose()
            closed = ws.closed
            self._log.info(
                "scheduler_disconnected",
                node=self.node_id,
                code=closed.code if closed else None,
                reason=closed.reason if closed else None,
            )

    async def _read(self, ws: WebSocketConnection, acknowledged: trio.Event, jobs: trio.Nursery) -> None:
        while True:
            frame = await ws.get_message()
            try:
                message = codec.scheduler_messages.decode(frame)
            except WireError as error:
                self._log.warning("message_ignored", node=self.node_id, reason=str(error))
                continue
            match message:
                case NodeRegisterAck(node_id=node_id):
                    self.node_id = node_id
                    acknowledged.set()
                    self._log.info("node_accepted", node=node_id, status=message.status)
                case HeartbeatAck():
                    self._tell_owner(message)
                case JobAssign():
                    self._take(message, jobs)
                case JobCancel(job_id=job_id):
                    if open_job := self._jobs.get(job_id):
                        open_job.scope.cancel()
                case SchedulerError():
                    self._log.error("scheduler_refused", code=message.code, reason=message.message)
                case PairingCode():
                    # Nothing here ever asks for one.
                    continue

    async def _introduce(self, ws: WebSocketConnection, outbox: Outbox, acknowledged: trio.Event) -> None:
        """Register, then send heartbeats for ever."""
        if self.node_id is not None:
            self._beat(outbox)
        offer = self._runner.offer()
        registration = NodeRegister(
            node_id=self.node_id,
            version=__version__,
            capability_schema_version="2.0",
            platform=machine.platform(),
            hardware=self._hardware,
            installed_models=offer.models,
            installed_services=offer.services,
            capability_by_type=offer.capabilities,
            features_supported=FeatureFlags(),
            advanced_features=[HEARTBEAT_ACK],
            accept_public_jobs=True,
            language_capabilities=offer.languages,
            max_concurrent_jobs=self._settings.max_jobs,
        )
        outbox.put(codec.encode(registration))
        with trio.fail_after(ACK_SECONDS):
            await acknowledged.wait()
        while True:
            self._beat(outbox)
            with trio.move_on_after(self._settings.heartbeat_seconds):
                with trio.fail_after(PONG_SECONDS):
                    await ws.ping()
                await self._news.wait()
                # What comes with it goes with it: a model that is ready changes several things.
                await trio.sleep(NEWS_SECONDS)

    def _beat(self, outbox: Outbox) -> None:
        assert self.node_id is not None, "heartbeats follow the first acknowledgement"
        offer = self._runner.offer()
        heartbeat = NodeHeartbeat(
            node_id=self.node_id,
            timestamp=time.time_ns() // 1_000_000,
            resource_usage=ResourceUsage(
                cpu_percent=self._load.cpu_percent(),
                mem_percent=self._load.memory_percent(),
                running_jobs=len(self._jobs),
            ),
            # Real nodes without models leave the member out.
            installed_models=offer.models or None,
            installed_services=offer.services,
            capability_by_type=offer.capabilities,
            language_capabilities=offer.languages,
            max_concurrent_jobs=self._settings.max_jobs,
        )
        outbox.put(codec.encode(heartbeat), optional=True)

    def _tell_owner(self, ack: HeartbeatAck) -> None:
        """Say in the log what is new in how the scheduler sees this node."""
        if news := self._told.standing(ack):
            self._log.info(
                "node_standing", node=self.node_id, status=ack.status, reason=ack.reason, says=news
            )
        if news := self._told.passed_over(ack, trio.current_time()):
            self._log.info("node_passed_over", node=self.node_id, says=news)

    def _take(self, job: JobAssign, jobs: trio.Nursery) -> None:
        """Start a job, or say at once why not."""
        if self.node_id is None:
            # Without an id there is no result that a scheduler would take.
            return
        utterance = (job.session_id, job.utterance_index)
        if not self._seen_jobs.is_new(job.job_id):
            self._refuse(job, ErrorCode.PROCESSING_ERROR, f"DUPLICATE_JOB_ID: {job.job_id} came before")
        elif not self._seen_utterances.is_new(utterance):
            sentence = f"DUPLICATE_UTTERANCE_INDEX: {job.utterance_index} of {job.session_id} came before"
            self._refuse(job, ErrorCode.PROCESSING_ERROR, sentence)
        elif len(self._jobs) >= self._settings.max_jobs + MAX_WAITING_JOBS:
            self._refuse(job, ErrorCode.NODE_OVERLOADED, f"{len(self._jobs)} jobs are waiting here")
        else:
            open_job = self._jobs[job.job_id] = _OpenJob(job.session_id)
            self._give_turn(job.session_id)
            jobs.start_soon(self._work, job, open_job)

    def _refuse(self, job: JobAssign, code: ErrorCode, sentence: str) -> None:
        self._answer(job, self._result(job, JobError(code=code, message=sentence)))

    def _give_turn(self, session_id: str) -> None:
        """Let the first open job of a session answer.

        A scheduler takes the answer of a later slice to contain the earlier ones (session-protocol 5.5).
        """
        first = next((job for job in self._jobs.values() if job.session_id == session_id), None)
        if first is not None:
            first.turn.set()

    async def _work(self, job: JobAssign, open_job: _OpenJob) -> None:
        started = trio.current_time()
        # What a bug in the work leaves behind; it must not end a node that does other jobs as well.
        result = self._result(job, JobError(message="the node failed, its log says why"))

        async def work() -> None:
            nonlocal result
            async with self._slots:
                result = await self._run(job)

        try:
            with open_job.scope:
                await guarded("job", work)
                # Without a slot: an earlier job of the session may need it.
                await open_job.turn.wait()
            if open_job.scope.cancelled_caught:
                self._log.info("job_cancelled", node=self.node_id, job=job.job_id)
                return
            took = trio.current_time() - started
            self._answer(job, msgspec.structs.replace(result, processing_time_ms=round(took * 1000)))
        finally:
            del self._jobs[job.job_id]
            self._give_turn(job.session_id)

    async def _run(self, job: JobAssign) -> JobResult:
        try:
            outcome = await self._runner.run(job)
        except JobFailed as failure:
            return self._result(
                job, JobError(code=failure.code, message=str(failure), details=failure.details)
            )
        return msgspec.structs.replace(
            self._result(job),
            text_asr=outcome.text_asr,
            text_translated=outcome.text_translated,
            tts_audio=outcome.tts_audio,
            tts_format=outcome.tts_format,
            extra=outcome.extra,
        )

    def _result(self, job: JobAssign, error: JobError | None = None) -> JobResult:
        """The result of a job that failed with this error, or of a success that is still to be filled in."""
        return JobResult(
            job_id=job.job_id,
            node_id=self.node_id or "",
            success=error is None,
            attempt_id=job.attempt_id,
            session_id=job.session_id,
            utterance_index=job.utterance_index,
            trace_id=job.trace_id,
            processing_time_ms=0,
            error=error,
        )

    def _answer(self, job: JobAssign, result: JobResult) -> None:
        """Send a result on the connection of this moment; without one it is dropped, as real nodes do."""
        if self._outbox is None or not self._outbox.put(codec.encode(result)):
            self._log.warning("job_result_dropped", node=self.node_id, job=job.job_id)
            return
        self._log.info(
            "job_answered",
            node=self.node_id,
            job=job.job_id,
            ms=result.processing_time_ms,
            code=result.error.code if result.error else None,
            reason=result.error.message if result.error else result.extra and result.extra.reason,
        )


@dataclass(frozen=True, slots=True)
class _OpenJob:
    """A job that is neither answered nor cancelled."""

    session_id: str
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    turn: trio.Event = field(default_factory=trio.Event)
    """Set once no earlier job of the session is open."""


class _Memory:
    """The last things seen, so many that a scheduler's repetition is recognised."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Hashable, None] = OrderedDict()

    def is_new(self, thing: Hashable) -> bool:
        """Whether `thing` was not seen before; it is now."""
        if thing in self._seen:
            return False
        self._seen[thing] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return True


async def _write(ws: WebSocketConnection, outbox: Outbox) -> None:
    while True:
        message = outbox.take()
        if message is None:
            await outbox.wait()
        else:
            assert not isinstance(message, Later), "a node puts in what it has made"
            await ws.send_message(message)


async def _ends(part: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    """Run one part of a connection; whichever ends first ends the connection."""
    with suppress(ConnectionClosed):
        await part()
    scope.cancel()


async def unless(stop: trio.Event, call: Callable[[], Awaitable[T]]) -> T | None:
    """What `call` gives, or None if `stop` comes first."""
    result: T | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ends, stop.wait, nursery.cancel_scope)
        result = await call()
        nursery.cancel_scope.cancel()
    return result


def scheduler_at(url: str) -> Dial:
    """How a node reaches the scheduler at a ws:// or wss:// address."""
    return partial(
        websocket,
        url,
        connect_seconds=CONNECT_SECONDS,
        write_seconds=WRITE_SECONDS,
        max_message_bytes=MAX_MESSAGE_BYTES,
    )


def _reason(error: BaseException) -> str:
    """What went wrong between this node and the scheduler, out of the groups it is wrapped in."""
    if isinstance(error, BaseExceptionGroup):
        return _reason(error.exceptions[0])
    return "no answer in time" if isinstance(error, trio.TooSlowError) else str(error)
