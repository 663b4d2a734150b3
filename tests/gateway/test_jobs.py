"""Asynchronous translations over a real store and real files: states, turns, cancelling, restarts (11.6)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
from msgspec.structs import replace
from patience import PATIENCE_S
from quart import Response, g, request
from quart_trio import QuartTrio

from linguad.core.speech_job import JobStatus, SpeechJob
from linguad.core.tenant import DEFAULT_SCOPES, Caller, Scope, Tenant
from linguad.core.webhooks import EventType, Webhook, switched_off
from linguad.gateway.jobs import runner as job_runner
from linguad.gateway.jobs.routes import SpeechJobs, add_job_routes
from linguad.gateway.jobs.runner import JobRules, JobRunner
from linguad.store.database import Database
from linguad.store.jobs import JobFiles, JobStore
from linguad.web.app import create_app
from linguad.web.problems import Problem, answer_problems

Json = dict[str, Any]
View = Callable[..., Awaitable[Response]]

HOOK = Webhook(
    id="wh_1", tenant_id="t", url="https://example.com/a", events=frozenset({EventType.PING}), created_at=0
)
TENANTS = {name: Tenant(id=name, name=name, created_at=0, updated_at=0) for name in ("t", "u", "v")}


class Upload(NamedTuple):
    fields: dict[str, str]
    audio: bytes


class Told(NamedTuple):
    tenant_id: str
    type: str
    data: Mapping[str, Any]
    also: str | None


class Script:
    """The translating: audio says what becomes of it, `go` lets those go on that wait."""

    def __init__(self) -> None:
        self.go = trio.Event()
        self.begun: list[str] = []
        self.running: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.beginning, self.begins = trio.open_memory_channel[str](1000)
        self.cancelled = 0

    async def prepare(self, caller: Caller, fields: Mapping[str, str], audio: bytes) -> Any:
        await trio.lowlevel.checkpoint()
        if not audio:
            raise Problem.wrong_field("audio", "is missing", "missing_audio", 400)
        return caller.tenant.id, dict(fields), audio.decode()

    async def translate(self, caller: Caller, prepared: Any, address: str) -> Json:
        tenant_id, fields, what = prepared
        self.begun.append(what)
        for name in (tenant_id, "all"):
            self.running[name] = self.running.get(name, 0) + 1
            self.most[name] = max(self.most.get(name, 0), self.running[name])
        self.beginning.send_nowait(what)
        try:
            if what.startswith("wait"):
                await self.go.wait()
            if what == "full":
                raise Problem(503, "no_capacity", "No node is free.")
            if what == "bug":
                raise ZeroDivisionError
        except trio.Cancelled:
            self.cancelled += 1
            raise
        finally:
            for name in (tenant_id, "all"):
                self.running[name] -= 1
        return {"text": what.upper(), "audio_tts": "UklGRg==", "src": fields.get("src_lang"), "from": address}


class Api:
    """The routes over store and files of a directory; `restart` is what a new process would do."""

    def __init__(self, database: Database, directory: Path, **rules: Any) -> None:
        self.store = JobStore(database)
        self.files = JobFiles(directory / "jobs")
        self.directory = directory / "jobs"
        self.script = Script()
        self.now = 1000.0
        self.slots = 100
        self.slots_taken = 0
        self.asking = 0
        self.others = trio.Event()
        """Set when other instances have said whether there is a session."""
        self.others.set()
        self.refusal: Problem | None = None
        self.tenants = dict(TENANTS)
        self.tell, self.told = trio.open_memory_channel[Told](100)
        self.scopes: list[Scope] = []
        self.runner = JobRunner(
            self.store,
            self.files,
            self.script,
            self._who,
            self._session,
            lambda *told: self.tell.send_nowait(Told(*told)),
            JobRules(**rules),
            clock=lambda: self.now,
        )
        self.app: QuartTrio = create_app("test")
        answer_problems(self.app)
        off = replace(switched_off(HOOK, "by its owner"), id="wh_2", url="https://example.com/b")
        hooks = {"t": [HOOK, off]}
        jobs = SpeechJobs(
            self.store, self.runner, self.script, lambda name: hooks.get(name, []), lambda: self.now
        )
        add_job_routes(self.app, self._protect, jobs, self._read)

    def _who(self, tenant_id: str, key_id: str) -> Caller | None:
        tenant = self.tenants.get(tenant_id)
        return None if tenant is None else Caller(tenant=tenant, key_id=key_id, scopes=DEFAULT_SCOPES)

    async def _session(self, caller: Caller) -> AbstractContextManager[None]:
        self.asking += 1
        await self.others.wait()
        if self.refusal is not None:
            raise self.refusal
        if self.slots_taken >= self.slots:
            raise Problem(429, "too_many_sessions", "Too many.")
        return self._slot()

    @contextmanager
    def _slot(self) -> Iterator[None]:
        self.slots_taken += 1
        try:
            yield
        finally:
            self.slots_taken -= 1

    def _protect(self, scope: Scope) -> Callable[[View], View]:
        def decorate(view: View) -> View:
            @wraps(view)
            async def protected(*args: Any, **kwargs: Any) -> Response:
                self.scopes.append(scope)
                g.caller = self._who(request.headers.get("X-Tenant", "t"), "k")
                return await view(*args, **kwargs)

            return protected

        return decorate

    async def _read(self, caller: Caller) -> Upload:
        return Upload(request.args.to_dict(), await request.get_data())

    async def call(
        self, method: str, path: str = "", data: bytes = b"", status: int = 200, tenant: str = "t"
    ) -> Json:
        answer = await self.app.test_client().open(
            f"/v1/speech/jobs{path}", method=method, data=data, headers={"X-Tenant": tenant}
        )
        assert answer.status_code == status, await answer.get_data(as_text=True)
        self.headers = answer.headers
        return await answer.get_json() if status != 204 else {}

    async def submit(self, audio: bytes, query: str = "", tenant: str = "t") -> str:
        job: Json = await self.call("POST", query, audio, 202, tenant)
        assert job["status"] == "queued"
        return str(job["job_id"])

    async def status(self, job_id: str) -> str:
        return str((await self.call("GET", f"/{job_id}"))["status"])

    def recordings(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir()) if self.directory.exists() else []

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.runner.run)
            yield
            nursery.cancel_scope.cancel()


Make = Callable[..., Api]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    database = Database(f"sqlite:///{tmp_path / 'linguad.db'}")
    await database.open()
    with trio.fail_after(PATIENCE_S):
        yield partial(Api, database, tmp_path)
    await database.close()


async def test_a_job_from_its_request_to_its_end(make: Make) -> None:
    api = make()
    async with api.working():
        job_id = await api.submit(b"wait", "?src_lang=de")
        assert api.headers["Location"] == f"/v1/speech/jobs/{job_id}"
        await api.script.begins.receive()
        page = await api.call("GET", f"/{job_id}")
        assert page == {
            "job_id": job_id,
            "status": "running",
            "created_at": "1970-01-01T00:16:40.000Z",
            "started_at": "1970-01-01T00:16:40.000Z",
            "finished_at": None,
        }
        assert api.recordings() == [job_id]
        assert api.slots_taken == 1
        api.now += 5
        api.script.go.set()
        told = await api.told.receive()
        page = await api.call("GET", f"/{job_id}")
        assert page["status"] == "succeeded"
        assert page["finished_at"] == "1970-01-01T00:16:45.000Z"
        assert page["result"] == {"text": "WAIT", "audio_tts": "UklGRg==", "src": "de", "from": ""}
    assert api.recordings() == []
    assert api.slots_taken == 0
    assert told == Told(
        "t",
        "job.completed",
        {
            "job_id": job_id,
            "status": "succeeded",
            "created_at": "1970-01-01T00:16:40.000Z",
            "finished_at": "1970-01-01T00:16:45.000Z",
            "result": {"text": "WAIT", "src": "de", "from": ""},
        },
        None,
    )
    json.dumps(told.data)
    assert set(api.scopes) == {Scope.TRANSLATE, Scope.JOBS}


@pytest.mark.parametrize(("audio", "code"), [(b"full", "no_capacity"), (b"bug", "internal_error")])
async def test_a_job_that_fails(make: Make, audio: bytes, code: str) -> None:
    api = make()
    async with api.working():
        job_id = await api.submit(audio)
        told = await api.told.receive()
        page = await api.call("GET", f"/{job_id}")
        after = await api.submit(b"next")
        assert (await api.told.receive()).data["job_id"] == after
    assert page["status"] == "failed"
    assert page["error"]["code"] == code
    assert "result" not in page
    assert (told.type, told.data["error"]) == ("job.failed", page["error"])


async def test_what_is_wrong_is_said_at_once(make: Make) -> None:
    api = make()
    assert (await api.call("POST", "", b"", 400))["error"]["code"] == "missing_audio"
    for url in ("https://example.com/other", HOOK.url.replace("/a", "/b")):
        error = (await api.call("POST", f"?callback_url={url}", b"x", 422))["error"]
        assert error["details"][0]["field"] == "callback_url"
    await api.call("POST", f"?callback_url={HOOK.url}", b"x", 422, tenant="u")
    assert api.recordings() == []
    assert await api.store.unfinished() == []


async def test_the_callback_is_told_whatever_it_wants(make: Make) -> None:
    api = make()
    async with api.working():
        await api.submit(b"a", f"?callback_url={HOOK.url}")
        assert (await api.told.receive()).also == "wh_1"


async def test_giving_up_while_it_waits_and_while_it_runs(make: Make) -> None:
    api = make(at_once=1)
    async with api.working():
        running = await api.submit(b"wait")
        await api.script.begins.receive()
        waiting = await api.submit(b"second")
        for job_id in (waiting, running):
            assert (await api.call("DELETE", f"/{job_id}", status=202))["status"] == "cancelled"
        last = await api.submit(b"third")
        assert (await api.told.receive()).data["job_id"] == last
        assert api.script.begun == ["wait", "third"]
        assert api.script.cancelled == 1
        for job_id in (waiting, running, last):
            await api.call("DELETE", f"/{job_id}", status=204)
            assert (await api.call("GET", f"/{job_id}", status=404))["error"]["code"] == "job_not_found"
            await api.call("DELETE", f"/{job_id}", status=404)
    assert api.recordings() == []
    assert api.slots_taken == 0


async def test_giving_up_while_the_other_instances_are_asked(make: Make) -> None:
    api = make(at_once=1)
    api.others = trio.Event()
    async with api.working():
        job_id = await api.submit(b"first")
        while not api.asking:  # noqa: ASYNC110
            await trio.sleep(0.01)
        assert (await api.call("DELETE", f"/{job_id}", status=202))["status"] == "cancelled"
        last = await api.submit(b"second")
        api.others.set()
        assert (await api.told.receive()).data["job_id"] == last
        assert api.script.begun == ["second"]
    assert api.recordings() == []
    assert api.slots_taken == 0


async def test_jobs_of_others_are_not_there(make: Make) -> None:
    api = make()
    job_id = await api.submit(b"a")
    await api.call("GET", f"/{job_id}", status=404, tenant="u")
    await api.call("DELETE", f"/{job_id}", status=404, tenant="u")
    assert await api.status(job_id) == "queued"


async def test_tenants_take_turns_and_limits_hold(make: Make) -> None:
    api = make(at_once=3, at_once_per_tenant=2)
    for number in range(6):
        await api.submit(b"wait t%d" % number)
    for tenant in ("u", "v"):
        for number in range(2):
            await api.submit(b"wait %b%d" % (tenant.encode(), number), tenant=tenant)
    async with api.working():
        first = {await api.script.begins.receive() for _ in range(3)}
        assert first == {"wait t0", "wait u0", "wait v0"}
        api.script.go.set()
        for _ in range(10):
            await api.told.receive()
    assert api.script.most["all"] == 3
    assert max(api.script.most[tenant] for tenant in "tuv") <= 2
    order = [int(what.removeprefix("wait t")) for what in api.script.begun if what.startswith("wait t")]
    assert sorted(order) == list(range(6))
    # of two at once the later one may be the first on its way to a node
    for place, number in enumerate(order):
        assert sum(later < number for later in order[place:]) <= 1


async def test_a_tenant_without_a_free_session_waits(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runner, "SLOT_PAUSE_SECONDS", 0.01)
    api = make()
    api.slots = 1
    async with api.working():
        ids = [await api.submit(b"wait %d" % number) for number in range(3)]
        await api.script.begins.receive()
        assert await api.status(ids[1]) == "queued"
        api.script.go.set()
        assert [(await api.told.receive()).data["job_id"] for _ in range(3)] == ids
    assert api.script.most["t"] == 1
    assert api.slots_taken == 0


async def test_a_tenant_that_may_not_any_more(make: Make) -> None:
    api = make()
    empty = await api.submit(b"a")
    gone = await api.submit(b"b", tenant="u")
    api.refusal = Problem(402, "insufficient_balance", "Top up.")
    del api.tenants["u"]
    async with api.working():
        told = [await api.told.receive() for _ in range(2)]
    codes = {one.data["job_id"]: one.data["error"]["code"] for one in told}
    assert codes == {empty: "insufficient_balance", gone: "invalid_credentials"}
    assert api.script.begun == []
    assert api.recordings() == []


async def test_a_restart_goes_on(make: Make) -> None:
    """What waited is done, what ran is done again, what a crash left behind is removed."""
    before = make(at_once=1)
    async with before.working():
        running = await before.submit(b"wait")
        await before.script.begins.receive()
        before.now += 1
        waiting = await before.submit(b"second")
    stray = before.directory / f"sj_{'0' * 24}"
    stray.write_bytes(b"no row")
    (before.directory / f"{stray.name}.new").write_bytes(b"half")
    assert await before.status(running) == "running"
    after = make(at_once=1)
    after.script.go.set()
    async with after.working():
        assert [(await after.told.receive()).data["job_id"] for _ in range(2)] == [running, waiting]
    assert after.script.begun == ["wait", "second"]
    assert after.recordings() == []
    found = await after.store.find(running)
    assert found is not None
    assert (found.status, found.runs) == (JobStatus.SUCCEEDED, 2)


async def test_a_job_that_ends_every_process_is_given_up(make: Make) -> None:
    job_id = await make().submit(b"wait")
    for _ in range(3):
        api = make()
        async with api.working():
            await api.script.begins.receive()
    api = make()
    async with api.working():
        told = await api.told.receive()
    assert told.data["job_id"] == job_id
    assert told.data["error"]["code"] == "job_lost"
    assert api.script.begun == api.recordings() == []


async def test_failures_of_a_daemon_that_ends_are_no_failures(make: Make) -> None:
    api = make()

    async def ends(caller: Caller, prepared: Any, address: str) -> Json:
        api.runner.stop()
        api.script.beginning.send_nowait("ends")
        raise Problem(503, "no_capacity", "The server is shutting down.")

    api.script.translate = ends  # type: ignore[method-assign]
    async with api.working():
        job_id = await api.submit(b"a")
        await api.script.begins.receive()
        assert (await api.call("POST", "", b"late", 503))["error"]["code"] == "no_capacity"
    assert await api.status(job_id) == "running"
    assert api.recordings() == [job_id]
    after = make()
    async with after.working():
        assert (await after.told.receive()).type == "job.completed"


async def test_too_many_and_too_much(make: Make) -> None:
    api = make(queued_per_tenant=2, queued_bytes=10)
    await api.submit(b"1234")
    await api.submit(b"5")
    error = (await api.call("POST", "", b"x", 429))["error"]
    assert (error["code"], error["retryable"]) == ("too_many_jobs", True)
    assert api.headers["Retry-After"] == "10"
    error = (await api.call("POST", "", b"123456", 503, tenant="u"))["error"]
    assert error["code"] == "no_capacity"
    assert len(api.recordings()) == 2
    await api.submit(b"12345", tenant="u")
    async with api.working():
        for _ in range(3):
            await api.told.receive()
    await api.submit(b"1234567890", tenant="u")


async def test_old_results_and_lost_jobs_are_swept(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runner, "SWEEP_SECONDS", 0.01)
    api = make(retention_seconds=100)
    foreign = SpeechJob(
        id=f"sj_{'f' * 24}", tenant_id="u", key_id="k", fields={}, address="", created_at=api.now
    )
    await api.store.add(foreign)
    async with api.working():
        done = await api.submit(b"a")
        assert (await api.told.receive()).data["job_id"] == done
        api.now += 99
        await api.submit(b"b")
        assert (await api.told.receive()).type == "job.completed"
        assert await api.status(done) == "succeeded"
        api.now += 2
        told = await api.told.receive()
        await api.call("GET", f"/{done}", status=404)
    assert told.data["job_id"] == foreign.id
    assert told.data["error"]["code"] == "job_lost"
