"""The locks that this process holds, renewed while it lives and let go whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio

from linguad import log
from linguad.models.errors import DownloadInProgressError, LockLostError
from linguad.models.locks import RENEW_SECONDS, Held, Lock, Locks
from linguad.models.names import Key

POLL_SECONDS = 1.0
"""How often a version that another process works on is looked at."""

SWEEP_SECONDS = 600.0
"""How often locks of dead processes are removed."""

logger = log.get(__name__)


class Holding:
    """Mutable state: what is held."""

    def __init__(self, tasks: Locks, leases: Locks) -> None:
        self._tasks = tasks
        self._leases = leases
        self._held: dict[Lock, Locks] = {}

    def beside(self, tasks: Locks) -> Holding:
        """Task locks of another directory, renewed with these."""
        other = Holding(tasks, self._leases)
        other._held = self._held
        return other

    async def run(self) -> None:
        """Renew what is held and sweep what is nobody's, until cancelled."""
        renewals = 0
        while True:
            await trio.sleep(RENEW_SECONDS)
            renewals += 1
            await self.renew()
            if renewals % round(SWEEP_SECONDS / RENEW_SECONDS) == 0:
                for locks in (self._tasks, self._leases):
                    with suppress(OSError):
                        await trio.to_thread.run_sync(locks.sweep)

    async def renew(self) -> None:
        """Say of every lock that its owner lives; one that is lost is held no more."""
        for lock, locks in list(self._held.items()):
            try:
                await trio.to_thread.run_sync(locks.renew, lock)
            except LockLostError as error:
                # One that was let go in the meantime is no loss.
                if self._held.pop(lock, None) is not None:
                    logger.warning("model_lock_lost", lock=lock.path.name, reason=str(error))
            except OSError as error:
                # There are many more tries before the lock ends.
                logger.warning("model_lock_not_renewed", lock=lock.path.name, reason=str(error))

    @asynccontextmanager
    async def task(self, one: Key, *, wait: bool) -> AsyncIterator[Lock]:
        """The task lock of a version. Raises DownloadInProgressError, unless told to wait; OSError."""
        while True:
            try:
                lock = await trio.to_thread.run_sync(self._tasks.take, one)
            except Held as held:
                if not wait:
                    raise DownloadInProgressError(*one, held.owner.pid) from held
            else:
                break
            await trio.sleep(POLL_SECONDS)
        async with self._keep(lock, self._tasks):
            yield lock

    async def check(self, lock: Lock) -> None:
        """Raises LockLostError if the lock is not ours any more, OSError."""
        await trio.to_thread.run_sync(self._tasks.check, lock)

    @asynccontextmanager
    async def lease(self, take: Callable[[], Lock]) -> AsyncIterator[None]:
        """A lease, as `take` makes it in a worker thread."""
        async with self._keep(await trio.to_thread.run_sync(take), self._leases):
            yield

    @asynccontextmanager
    async def _keep(self, lock: Lock, locks: Locks) -> AsyncIterator[None]:
        self._held[lock] = locks
        try:
            yield
        finally:
            self._held.pop(lock, None)
            with trio.CancelScope(shield=True), suppress(OSError):
                await trio.to_thread.run_sync(partial(locks.release, lock))
