"""Works on asynchronous translations: some at once, tenants in turn, over restarts (gateway 11.6).

Jobs and their results are in the store, recordings are files of this instance; here is only who waits and
who is being worked on. A job that runs holds one of its tenant's sessions, as any translation does.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any

import msgspec
import trio
from msgspec import Struct

from linguad import log
from linguad.core.speech_job import (
    JobStatus,
    SpeechJob,
    begun,
    cancelled,
    failed,
    interrupted,
    lost,
    succeeded,
)
from linguad.core.tenant import Caller
from linguad.errors import StoreError
from linguad.gateway.jobs.port import Files, Store, Work
from linguad.metrics import SPEECH_JOBS, SPEECH_JOBS_ENDED
from linguad.web.problems import Problem
from linguad.wire.moment import told

SLOT_PAUSE_SECONDS = 1.0
"""How long a tenant without a free session waits until its next job is tried; others go on."""

AWAY_SECONDS = 1.0
"""Pause after the store could not be used."""

SWEEP_SECONDS = 600.0
"""How often old results and recordings nobody needs are removed."""

CLEAN_SECONDS = 5.0
"""How long a recording may take to be removed."""

NOT_YET = ("too_many_sessions", "limits_unavailable")
"""Refusals that pass: the job waits on."""

SPEECH = "audio_tts"
"""Member of a result that webhooks are not sent: it may have megabytes, and GET has it."""

NO_LONGER_VALID = "The key it was sent with, or its account, is not valid any more; send it with another."

logger = log.get(__name__)


class JobRules(Struct, frozen=True, kw_only=True):
    """Limits of asynchronous translations."""

    at_once: int = 4
    at_once_per_tenant: int = 2
    queued_per_tenant: int = 100
    queued_bytes: int = 4 * 2**30
    retention_seconds: float = 86400


class JobRunner:
    """Mutable state: the jobs of this instance that wait, by tenant, and those that run."""

    def __init__(
        self,
        store: Store,
        files: Files,
        work: Work,
        who: Callable[[str, str], Caller | None],
        session: Callable[[Caller], Awaitable[AbstractContextManager[object]]],
        emit: Callable[[str, str, Mapping[str, Any], str | None], None],
        rules: JobRules,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`who` is the caller of a tenant and key now, None if it may do nothing any more; `session` takes
        one of its sessions or raises Problem; `emit` tells its webhooks, and one of these in any case.
        """
        self._store = store
        self._files = files
        self._work = work
        self._who = who
        self._session = session
        self._emit = emit
        self._rules = rules
        self._clock = clock
        self._waiting: dict[str, deque[SpeechJob]] = {}
        self._sizes: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._running: dict[str, trio.CancelScope] = {}
        self._running_of: Counter[str] = Counter()
        self._stopping = False
        self._news = trio.Event()
        SPEECH_JOBS.labels("queued").set_function(lambda: sum(map(len, self._waiting.values())))
        SPEECH_JOBS.labels("running").set_function(lambda: len(self._running))

    def check_room(self, tenant_id: str, size: int = 0) -> None:
        """Raises Problem if a tenant, or this instance, has too many jobs waiting for one of `size` bytes."""
        if len(self._waiting.get(tenant_id, ())) >= self._rules.queued_per_tenant:
            message = "Too many of your jobs are waiting; send the next ones when some are done."
            raise Problem(429, "too_many_jobs", message, headers={"Retry-After": "10"})
        if self._stopping or sum(self._sizes.values()) + size > self._rules.queued_bytes:
            message = "The server takes no more jobs at this moment; try again in a minute."
            raise Problem(503, "no_capacity", message, headers={"Retry-After": "60"})

    async def submit(self, job: SpeechJob, audio: bytes) -> None:
        """Take a new job on. Raises Problem, StoreError and OSError; then there is no job."""
        self.check_room(job.tenant_id, len(audio))
        self._sizes[job.id] = len(audio)
        try:
            await self._files.write(job.id, audio)
            await self._store.add(job)
        except BaseException:
            await self._drop_file(job.id)
            raise
        self._enqueue(job)

    async def cancel(self, job_id: str) -> SpeechJob | None:
        """Give an open job up; None if it is not open any more. Raises StoreError."""
        moved = await self._store.move(job_id, lambda job: cancelled(job, self._clock()))
        if moved is not None:
            SPEECH_JOBS_ENDED.labels(moved.status.value).inc()
            if job_id in self._running:
                self._running[job_id].cancel()
            else:
                self._forget(moved)
                await self._drop_file(job_id)
        return moved

    def stop(self) -> None:
        """The daemon is about to end: begin nothing more; what does not end in time runs again later."""
        self._stopping = True

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take up what was left by the process before, say so, then work for ever.

        Nothing may be submitted before it has said so.
        """
        await self._take_up()
        task_status.started()
        swept_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            while True:
                self._news = trio.Event()
                pause = await self._start_jobs(nursery)
                with trio.move_on_after(min(pause, SWEEP_SECONDS)):
                    await self._news.wait()
                if trio.current_time() >= swept_at + SWEEP_SECONDS:
                    swept_at = trio.current_time()
                    await self._sweep()

    async def _take_up(self) -> None:
        """The open jobs whose recordings are here go on; recordings without a job are removed."""
        while True:
            try:
                await self._files.sweep_halves()
                sizes = await self._files.sizes()
                jobs = await self._store.unfinished()
                break
            except (StoreError, OSError) as error:
                logger.warning("speech_jobs_away", reason=str(error))
                await trio.sleep(AWAY_SECONDS)
        new = sizes.keys() - self._sizes.keys()
        ours = [job for job in jobs if job.id in new]
        for job_id in new - {job.id for job in ours}:
            await self._drop_file(job_id)
        for job in ours:
            self._sizes[job.id] = sizes[job.id]
            if job.status is JobStatus.RUNNING:
                moved = await self._store.move(job.id, lambda job: interrupted(job, self._clock()))
                if moved is None or not moved.open:
                    await self._ended(job, moved)
                    continue
                job = moved
            self._enqueue(job)
        if ours:
            logger.info("speech_jobs_taken_up", count=len(ours))

    def _enqueue(self, job: SpeechJob) -> None:
        self._waiting.setdefault(job.tenant_id, deque()).append(job)
        self._news.set()

    def _forget(self, job: SpeechJob) -> None:
        """Take a job out of the queue, if it is in."""
        line = self._waiting.get(job.tenant_id, deque())
        self._waiting[job.tenant_id] = deque(one for one in line if one.id != job.id)
        if not self._waiting[job.tenant_id]:
            del self._waiting[job.tenant_id]

    async def _start_jobs(self, nursery: trio.Nursery) -> float:
        """Start what there is room for, one of each tenant in turn; returns when to look again, s."""
        again = SWEEP_SECONDS
        for tenant_id in tuple(self._waiting):
            if self._stopping or len(self._running) >= self._rules.at_once:
                break
            if (left := self._not_before.get(tenant_id, 0.0) - trio.current_time()) > 0:
                again = min(again, left)
            elif self._running_of[tenant_id] < self._rules.at_once_per_tenant:
                again = min(again, await self._start_next(tenant_id, nursery))
        return again

    async def _start_next(self, tenant_id: str, nursery: trio.Nursery) -> float:
        """Start the next job of a tenant, which then is the last in turn; returns when to look again, s."""
        if tenant_id not in self._waiting:
            return SWEEP_SECONDS
        job = self._waiting[tenant_id][0]
        caller = self._who(job.tenant_id, job.key_id)
        with ExitStack() as held:
            problem = None
            try:
                if caller is None:
                    problem = Problem(403, "invalid_credentials", NO_LONGER_VALID)
                else:
                    held.enter_context(await self._session(caller))
            except Problem as refused:
                if refused.code in NOT_YET:
                    self._not_before[tenant_id] = trio.current_time() + SLOT_PAUSE_SECONDS
                    return SLOT_PAUSE_SECONDS
                problem = refused
            line = self._waiting.get(tenant_id)
            if self._stopping or line is None or line[0] is not job:
                # given up while the other instances were asked
                return 0.0
            self._not_before.pop(tenant_id, None)
            del self._waiting[tenant_id]
            line.popleft()
            if line:
                self._waiting[tenant_id] = line
            self._running_of[tenant_id] += 1
            scope = self._running[job.id] = trio.CancelScope()
            nursery.start_soon(self._do, job, caller, problem, held.pop_all(), scope)
        return 0.0 if self._waiting else SWEEP_SECONDS

    async def _do(
        self,
        job: SpeechJob,
        caller: Caller | None,
        problem: Problem | None,
        held: ExitStack,
        scope: trio.CancelScope,
    ) -> None:
        """Work on one job to its end; it holds a session meanwhile."""
        end: Callable[[SpeechJob], SpeechJob | None] | None = None
        try:
            with held, scope:
                end = await self._work_on(job, caller, problem)
            # not in the scope: what came of it is kept, even if it is being given up at this moment
            if end is not None or scope.cancelled_caught:
                await self._finish(job, end)
        finally:
            del self._running[job.id]
            self._running_of[job.tenant_id] -= 1
            if not self._running_of[job.tenant_id]:
                del self._running_of[job.tenant_id]
            self._news.set()

    async def _work_on(
        self, job: SpeechJob, caller: Caller | None, problem: Problem | None
    ) -> Callable[[SpeechJob], SpeechJob | None] | None:
        """The step that a job comes to; None if it is to be left as it is, for after the restart."""
        try:
            if problem is not None or caller is None:
                raise problem or AssertionError
            if await self._patiently(partial(self._store.move, job.id, self._begin)) is None:
                # given up before it began; its file is all that is left
                return lambda _job: None
            audio = await self._files.read(job.id)
            prepared = await self._work.prepare(caller, job.fields, audio)
            del audio
            result = await self._work.translate(caller, prepared, job.address)
            encoded = await trio.to_thread.run_sync(msgspec.json.encode, result)
            return lambda job: succeeded(job, self._clock(), encoded)
        except Problem as refused:
            if self._stopping and refused.retryable:
                return None
            error = _told(refused)
        except OSError as lost_file:
            logger.warning("speech_job_unreadable", job=job.id, reason=lost_file.strerror)
            error = lost("Its recording could not be read; send it again.")
        except Exception:
            # one job's bug must not end the others
            logger.exception("speech_job_crashed", job=job.id)
            error = _told(Problem(500, "internal_error", "Something went wrong inside linguad."))
        return lambda job: failed(job, self._clock(), error)

    def _begin(self, job: SpeechJob) -> SpeechJob | None:
        return begun(job, self._clock())

    def _give_up(self, job: SpeechJob) -> SpeechJob | None:
        error = lost("The server that had its recording has not come back; send it again.")
        return failed(job, self._clock(), error)

    async def _finish(self, job: SpeechJob, end: Callable[[SpeechJob], SpeechJob | None] | None) -> None:
        """Keep what a job came to, tell its owner, and let its recording go."""
        moved = None
        if end is not None:
            moved = await self._patiently(partial(self._store.move, job.id, end))
        await self._ended(job, moved)

    async def _ended(self, job: SpeechJob, moved: SpeechJob | None) -> None:
        """A job is over; `moved` is it, unless somebody else ended it."""
        if moved is not None:
            # at once, so that nothing can come between the end and its news
            self._tell(moved)
        await self._drop_file(job.id)

    def _tell(self, moved: SpeechJob) -> None:
        SPEECH_JOBS_ENDED.labels(moved.status.value).inc()
        logger.info(
            "speech_job_finished",
            job=moved.id,
            tenant=moved.tenant_id,
            status=moved.status.value,
            code=(moved.error or {}).get("code"),
            runs=moved.runs,
            seconds=round(self._clock() - moved.created_at, 1),
        )
        kind = "job.completed" if moved.status is JobStatus.SUCCEEDED else "job.failed"
        self._emit(moved.tenant_id, kind, _event(moved), moved.webhook_id)

    async def _patiently(self, move: Callable[[], Any]) -> SpeechJob | None:
        """Do it as soon as the store lets us: hours of work must not be lost for a moment without it."""
        while True:
            try:
                moved: SpeechJob | None = await move()
                return moved
            except StoreError as error:
                logger.warning("speech_jobs_away", reason=str(error))
                await trio.sleep(AWAY_SECONDS)

    async def _drop_file(self, job_id: str) -> None:
        self._sizes.pop(job_id, None)
        try:
            # also where the daemon ends, or it would lie there until the next start
            with trio.move_on_after(CLEAN_SECONDS, shield=True):
                await self._files.remove(job_id)
        except OSError as error:
            logger.warning("speech_job_file_left", job=job_id, reason=error.strerror)

    async def _sweep(self) -> None:
        """Remove old results; end open jobs so old that whoever had their recordings will not come back."""
        before = self._clock() - self._rules.retention_seconds
        try:
            await self._store.sweep(before)
            for job in await self._store.unfinished():
                if job.created_at < before and job.id not in self._sizes:
                    moved = await self._store.move(job.id, self._give_up)
                    await self._ended(job, moved)
        except StoreError as error:
            logger.warning("speech_jobs_away", reason=str(error))


def _told(problem: Problem) -> dict[str, Any]:
    """A problem as it is kept."""
    error = {
        "code": problem.code,
        "message": problem.message,
        "status": problem.status,
        "retryable": problem.retryable,
    }
    return error if problem.details is None else error | {"details": problem.details}


def _event(job: SpeechJob) -> dict[str, Any]:
    """What webhooks are told of a job that has ended."""
    data: dict[str, Any] = {
        "job_id": job.id,
        "status": job.status,
        "created_at": told(job.created_at),
        "finished_at": told(job.finished_at),
    }
    if job.result is not None:
        result = msgspec.json.decode(job.result)
        data["result"] = {name: value for name, value in result.items() if name != SPEECH}
    if job.error is not None:
        data["error"] = job.error
    return data
