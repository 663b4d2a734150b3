"""The models of one data directory: had from the hub, used, changed over and removed (model-manager 11)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from linguad import log
from linguad.models import trees
from linguad.models.errors import (
    Cancelled,
    ModelError,
    ModelNotAvailableError,
    Reason,
    VersionNotFoundError,
    disk_error,
)
from linguad.models.fetch import LIMITS
from linguad.models.holding import Holding
from linguad.models.hub import Hub
from linguad.models.installing import FILES_PER_PROCESS, Installer
from linguad.models.keeper import Keeper
from linguad.models.layout import Layout
from linguad.models.locks import Lock, Locks
from linguad.models.names import Key, by_age, check_id, key
from linguad.models.packages import Packages, locks_of
from linguad.models.progress import Changed, Events, Gate, Meter, Problem, State
from linguad.models.registry import (
    Pointers,
    Records,
    Registry,
    Status,
)
from linguad.models.signing import Trust
from linguad.models.usage import Usage
from linguad.net.dial import ungrouped
from linguad.net.http_client import Limits
from linguad.net.supervise import guarded

logger = log.get(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a manager behaves."""

    data: Path
    """The data directory."""
    hub: str
    """Address of the hub, as `hub_url` gives it."""
    token: str | None = None
    trust: Trust = field(default_factory=Trust)
    require_signature: bool = False
    allow_unverified: bool = False
    """Take files of which the hub tells no checksum."""
    node_id: str | None = None
    """Told to the hub with usage."""
    limits: Limits = LIMITS


class _Task:
    """A download that runs, and who waits for it."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self.error: ModelError | None = None


class ModelManager:
    """Mutable state: the downloads that run."""

    def __init__(self, settings: Settings) -> None:
        self.layout = Layout(settings.data)
        self.hub = Hub(settings.hub, token=settings.token)
        self.events = Events()
        self.gate = Gate()
        self.registry = Registry(self.layout)
        self._task_locks = Locks(self.layout.tasks)
        self._lease_locks = Locks(self.layout.leases)
        self._holding = Holding(self._task_locks, self._lease_locks)
        self.usage = Usage(settings.data / "models-usage.json", self.hub, settings.node_id)
        self._installer = Installer(
            layout=self.layout,
            registry=self.registry,
            holding=self._holding,
            hub=self.hub,
            trust=settings.trust,
            require_signature=settings.require_signature,
            allow_unverified=settings.allow_unverified,
            gate=self.gate,
            slots=trio.CapacityLimiter(FILES_PER_PROCESS),
            note=self.usage.note,
            limits=settings.limits,
        )
        self.keeper = Keeper(
            layout=self.layout,
            registry=self.registry,
            holding=self._holding,
            leases=self._lease_locks,
            events=self.events,
        )
        self._trust = settings.trust
        self._tasks: dict[Key, _Task] = {}
        self._nursery: trio.Nursery | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[ModelManager]:
        """A manager for as long as the block lasts; then downloads stop, keeping their parts.

        Raises DiskError, RegistryError.
        """
        manager = cls(settings)
        try:
            await trio.to_thread.run_sync(manager._start)
        except OSError as error:
            raise disk_error(error) from error
        try:
            with ungrouped():
                async with trio.open_nursery() as nursery:
                    manager._nursery = nursery
                    nursery.start_soon(manager._holding.run)
                    nursery.start_soon(manager.usage.run)
                    for one in list(manager.keeper.settling):
                        nursery.start_soon(manager._settle, one)
                    yield manager
                    nursery.cancel_scope.cancel()
        finally:
            manager._nursery = None
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(manager.usage.save)

    def _start(self) -> None:
        self.layout.prepare()
        self._task_locks.sweep()
        self._lease_locks.sweep()
        trees.recover(self.layout, self._task_locks)
        locked = {owner.key for owner in self._task_locks.owners()}
        # Before anything else can be asked of them.
        self.keeper.settling.update((one, trio.Event()) for one in self.registry.load(locked))

    async def _settle(self, one: Key) -> None:
        """Find out whether a tree without a good record is whole."""
        with suppress(ModelError, OSError):
            await self.keeper.settle(one)

    async def packages(self, *, allow_unsigned: bool = False) -> Packages:
        """The service packages of this machine. Raises DiskError."""
        root = self.layout.services
        try:
            locks = await trio.to_thread.run_sync(locks_of, root)
        except OSError as error:
            raise disk_error(error) from error
        return Packages(
            root=root,
            hub=self.hub,
            trust=self._trust,
            holding=self._holding.beside(locks),
            gate=self.gate,
            allow_unsigned=allow_unsigned,
        )

    def installed(self) -> Records:
        """All records. Not to be changed."""
        return self.registry.records()

    def active(self) -> Pointers:
        """The versions in use. Not to be changed."""
        return self.registry.active()

    @property
    def running(self) -> list[Key]:
        """The versions that this process downloads."""
        return list(self._tasks)

    def path(self, model_id: str, version: str | None = None) -> Path:
        """Where a version lies, without any network. Raises ModelNotAvailableError, InvalidIdentifierError.

        Without a version the active one is meant, else the newest that is installed.
        """
        one = self._meant(model_id, version)
        record = self.registry.record(one)
        if record is None:
            raise ModelNotAvailableError(
                *one, Reason.DOWNLOADING if self._is_coming(one) else Reason.NOT_INSTALLED
            )
        if record.status is Status.ERROR:
            raise ModelNotAvailableError(*one, Reason.ERROR)
        if record.status is not Status.READY:
            raise ModelNotAvailableError(*one, Reason.VERIFYING)
        tree = self.layout.tree(one)
        if not tree.is_dir():
            raise ModelNotAvailableError(*one, Reason.NOT_INSTALLED)
        return tree

    def _is_coming(self, one: Key) -> bool:
        """Whether this or another process works on a version, as far as can be seen."""
        try:
            return one in self._tasks or self._task_locks.owner(one) is not None
        except OSError:
            return False

    def _meant(self, model_id: str, version: str | None) -> Key:
        if version is not None:
            return key(model_id, version)
        check_id(model_id)
        if (pointer := self.active().get(model_id)) is not None:
            return Key(model_id, pointer.version)
        records = self.installed().get(model_id, {})
        ready = [one for one, record in records.items() if record.status is Status.READY]
        if not records and (coming := next((one for one in self._tasks if one.model_id == model_id), None)):
            return coming
        known = next((model.default_version for model in self.hub.known if model.id == model_id), "")
        return Key(model_id, max(ready or records, key=by_age, default=known or "default"))

    @asynccontextmanager
    async def lease(self, model_id: str, version: str | None = None) -> AsyncIterator[Path]:
        """Where a version lies; it is not removed before the end of the block. Raises as `path` does."""
        one = self._meant(model_id, version)

        def take() -> Lock:
            # Looked at and leased in one step, as a removal looks at leases and forgets in one.
            def leased(records: Records, pointers: Pointers) -> Lock:
                self.path(*one)
                return self._lease_locks.lease(one)

            return self.registry.change(leased)

        async with self._holding.lease(take):
            yield self.layout.tree(one)

    async def resolve(self, model_id: str, version: str | None = None) -> Key:
        """The version that the hub has under a version, a channel, `latest` or nothing.

        Raises VersionNotFoundError, ModelNotFoundError, NetworkError, HubProtocolError.
        """
        chosen = (await self.hub.model(model_id)).choose(version)
        if chosen is None:
            raise VersionNotFoundError(f"the hub has no version of {model_id} to offer")
        return key(model_id, chosen)

    async def ensure(self, model_id: str, version: str | None = None) -> Path:
        """A version that is whole: the installed one, else from the hub. Raises ModelError of every kind.

        Nothing is asked of the hub if it is installed; another process that is at it is waited for.
        """
        while True:
            try:
                return self.path(model_id, version)
            except ModelNotAvailableError as error:
                settled = self.keeper.settling.get(Key(model_id, error.version))
                if settled is None:
                    break
            await settled.wait()
        return await self.download(model_id, version, wait=True)

    async def download(
        self, model_id: str, version: str | None = None, *, force: bool = False, wait: bool = False
    ) -> Path:
        """Have a version installed; a call while it is on its way joins that. Raises ModelError.

        `force` fetches what is installed anew, using its good files, and takes withdrawn versions too; `wait`
        waits for another process. Cancelling the caller leaves the download running; see `cancel`.
        """
        # Before the first await, so that of two quick calls the second one finds the first.
        one = key(model_id, version) if version else await self.resolve(model_id)
        task = self._tasks.get(one) or self._begin(one, force=force, wait=wait)
        await task.done.wait()
        if task.error is not None:
            raise task.error
        return self.layout.tree(one)

    def cancel(self, model_id: str, version: str) -> None:
        """Stop a download, keeping its parts; those who wait for it get Cancelled."""
        if task := self._tasks.get(key(model_id, version)):
            task.scope.cancel()

    def _begin(self, one: Key, *, force: bool, wait: bool) -> _Task:
        assert self._nursery is not None, "downloads run while the manager is open"
        task = self._tasks[one] = _Task()
        self._nursery.start_soon(partial(self._run, one, task, force=force, wait=wait))
        self.events.tell(Changed(model_id=one.model_id, version=one.version, status="downloading"))
        return task

    async def _run(self, one: Key, task: _Task, *, force: bool, wait: bool) -> None:
        meter = Meter(one.model_id, one.version, self.events.tell, time.monotonic)
        # What those who wait see if the whole manager ends.
        task.error = Cancelled(f"the download of {one} was cancelled; start it again to go on")
        try:
            with task.scope:
                task.error = await self._outcome(one, meter, force=force, wait=wait)
        finally:
            del self._tasks[one]
            self._conclude(one, meter, task.error)
            task.done.set()

    async def _outcome(self, one: Key, meter: Meter, *, force: bool, wait: bool) -> ModelError | None:
        error: ModelError | None = ModelError(f"a bug ended the download of {one}; report what the log says")

        async def install() -> None:
            nonlocal error
            try:
                await self._installer.install(one, meter, force=force, wait=wait)
                error = None
            except ModelError as problem:
                error = problem

        # A bug must not end whoever has this manager open, nor the other downloads.
        await guarded("model", install)
        return error

    def _conclude(self, one: Key, meter: Meter, error: ModelError | None) -> None:
        """Tell how a task ended, once."""
        if isinstance(error, Cancelled):
            meter.state(State.CANCELLED)
        elif error is not None:
            self.usage.note("error", one)
            logger.warning(
                "model_download_failed",
                model=one.model_id,
                version=one.version,
                code=error.code,
                reason=str(error),
            )
            self.events.tell(
                Problem(
                    model_id=one.model_id,
                    version=one.version,
                    stage=error.stage,
                    code=error.code,
                    message=str(error),
                    can_retry=error.retryable,
                )
            )
            meter.state(State.FAILED)
        else:
            meter.state(State.READY)
        self._changed(one)

    def _changed(self, one: Key) -> None:
        self.events.tell(Changed(model_id=one.model_id, version=one.version, status=self.status(one)))

    def status(self, one: Key) -> str:
        """ready, downloading, error or not_installed (model-manager 8.1)."""
        try:
            self.path(*one)
        except ModelNotAvailableError as error:
            return "downloading" if error.reason is Reason.VERIFYING else error.reason
        return "ready"
