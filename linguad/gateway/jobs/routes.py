"""`/v1/speech/jobs`: recordings that are translated while nobody waits (gateway 11.6)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, Protocol

import msgspec
import trio
from quart import Response, g, jsonify, request
from quart_trio import QuartTrio

from linguad import log
from linguad.core.speech_job import SpeechJob
from linguad.core.tenant import Caller, Scope
from linguad.core.webhooks import Webhook
from linguad.gateway.jobs.port import Store, Work
from linguad.gateway.jobs.runner import JobRunner
from linguad.web.address import client_of
from linguad.web.problems import Problem
from linguad.wire.moment import told

PATH = "/v1/speech/jobs"

CALLBACK = "callback_url"
"""Field of the form with the URL of the webhook that is to be told."""

View = Callable[..., Awaitable[Response]]
Once = Callable[[object, Callable[[], Awaitable[Response]]], Awaitable[Response]]
"""Answers the request with this input, by working or from an earlier run."""

logger = log.get(__name__)


class Upload(Protocol):
    """A form that was read: its texts by name, and the recording."""

    @property
    def fields(self) -> dict[str, str]: ...
    @property
    def audio(self) -> bytes: ...


class SpeechJobs:
    """What callers may do with the jobs of their tenant; methods raise Problem and StoreError."""

    def __init__(
        self,
        store: Store,
        runner: JobRunner,
        work: Work,
        webhooks_of: Callable[[str], list[Webhook]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`webhooks_of` gives the webhooks of a tenant."""
        self._store = store
        self._runner = runner
        self._work = work
        self._webhooks_of = webhooks_of
        self._clock = clock

    def check_room(self, caller: Caller) -> None:
        """Raises Problem if no job can be taken anyway, before its recording is read."""
        self._runner.check_room(caller.tenant.id)

    async def submit(self, caller: Caller, upload: Upload, address: str) -> SpeechJob:
        """Check a job and take it on."""
        fields = dict(upload.fields)
        webhook_id = self._webhook(caller, fields.pop(CALLBACK, ""))
        # What is wrong with it is said now, not in an hour.
        await self._work.prepare(caller, fields, upload.audio)
        job = SpeechJob(
            id=f"sj_{secrets.token_hex(12)}",
            tenant_id=caller.tenant.id,
            key_id=caller.key_id,
            fields=fields,
            address=address,
            created_at=self._clock(),
            webhook_id=webhook_id,
        )
        try:
            await self._runner.submit(job, upload.audio)
        except OSError as error:
            logger.error("speech_job_unwritable", reason=error.strerror)
            message = "The recording cannot be kept at this moment; try again in a minute."
            raise Problem(503, "no_capacity", message, headers={"Retry-After": "60"}) from error
        return job

    async def find(self, caller: Caller, job_id: str) -> SpeechJob:
        """A job of the caller's tenant."""
        job = await self._store.find(job_id)
        if job is None or job.tenant_id != caller.tenant.id:
            message = "There is no such job; results are kept for some time only, usually a day."
            raise Problem(404, "job_not_found", message)
        return job

    async def remove(self, caller: Caller, job_id: str) -> SpeechJob | None:
        """Give an open job up, which is returned; or forget one that has ended."""
        await self.find(caller, job_id)
        given_up = await self._runner.cancel(job_id)
        if given_up is None:
            await self._store.remove(job_id)
        return given_up

    def _webhook(self, caller: Caller, url: str) -> str | None:
        """The id of the webhook with a URL, None for no URL."""
        if not url:
            return None
        for webhook in self._webhooks_of(caller.tenant.id):
            if webhook.url == url and webhook.enabled:
                return webhook.id
        raise Problem.wrong_field(CALLBACK, "is no URL of a webhook that is on; POST /v1/webhooks makes one")


async def _always(_given: object, work: Callable[[], Awaitable[Response]]) -> Response:
    return await work()


def add_job_routes(
    app: QuartTrio,
    protect: Callable[[Scope], Callable[[View], View]],
    jobs: SpeechJobs,
    read_upload: Callable[[Caller], Awaitable[Upload]],
    once: Once = _always,
) -> None:
    """Serve asynchronous translations on an app.

    `protect` lets only keys with a scope through and sets `g.caller`; `read_upload` reads the form of the
    request being answered, with the field `callback_url`; `once` honours Idempotency-Key.
    """

    @app.post(PATH)
    @protect(Scope.TRANSLATE)
    async def create_job() -> Response:
        jobs.check_room(g.caller)
        upload = await read_upload(g.caller)

        async def work() -> Response:
            job = await jobs.submit(g.caller, upload, client_of(request).address)
            response = jsonify({"job_id": job.id, "status": job.status})
            response.status_code = 202
            response.headers["Location"] = f"{PATH}/{job.id}"
            return response

        digest = await trio.to_thread.run_sync(lambda: sha256(upload.audio).hexdigest())
        return await once([dict(upload.fields), digest], work)

    @app.get(f"{PATH}/<job_id>")
    @protect(Scope.JOBS)
    async def show_job(job_id: str) -> Response:
        job = await jobs.find(g.caller, job_id)
        page = job_page(job)
        if job.result is not None:
            # JSON already, perhaps megabytes of it
            page["result"] = msgspec.Raw(job.result)
        return _json(page)

    @app.delete(f"{PATH}/<job_id>")
    @protect(Scope.TRANSLATE)
    async def remove_job(job_id: str) -> Response:
        given_up = await jobs.remove(g.caller, job_id)
        return Response("", status=204) if given_up is None else _json(job_page(given_up), 202)


def job_page(job: SpeechJob) -> dict[str, Any]:
    """A job as JSON, without its result."""
    page: dict[str, Any] = {
        "job_id": job.id,
        "status": job.status,
        "created_at": told(job.created_at),
        "started_at": told(job.started_at),
        "finished_at": told(job.finished_at),
    }
    return page if job.error is None else page | {"error": job.error}


def _json(page: dict[str, Any], status: int = 200) -> Response:
    return Response(msgspec.json.encode(page), status=status, content_type="application/json")
