"""The catalogue: an immutable snapshot of all that is published, swapped whenever something changes.

Walking and reading happen in a worker thread, one change at a time; who reads `current` gets one consistent
state and never waits (model-hub 4.2, resolution 43).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import trio

from linguad import log
from linguad.errors import LinguadError
from linguad.hub.hashes import Stamp
from linguad.hub.records import Record
from linguad.hub.scan import File
from linguad.hub.shelf import Done, Shelf
from linguad.hub.signing import Keys, SigningKey
from linguad.hub.snapshot import Change, Snapshot
from linguad.metrics import HUB_READ_AT, HUB_REVISION, HUB_UNHASHED

HISTORY = 1000
"""Changes of which it is still known what changed; who is behind more gets everything."""

LARGE = 300
"""Models and packages up to which a list is made in about 1 ms."""

T = TypeVar("T")
logger = log.get(__name__)


class Catalog:
    """Keeps the snapshot of one models directory up to date."""

    def __init__(self, root: Path, *, signed_only: bool = False, export: bool = True) -> None:
        """With `signed_only` packages without a valid signature are not offered; `export` keeps the index."""
        self.root = root
        self.current = Snapshot()
        self.keys = Keys(root / "_hub" / "keys.json")
        self._shelf = Shelf(root, self.keys, signed_only=signed_only, export=export)
        self._turn = trio.Lock()
        self._askers = trio.CapacityLimiter(1)
        self._unhashed = trio.Event()
        self._changed = trio.Event()
        self._history: deque[Change] = deque(maxlen=HISTORY)

    async def open(self) -> None:
        """Make the directories and look at everything. Raises LinguadError with the cure."""
        try:
            await trio.to_thread.run_sync(self._shelf.prepare)
            await self.rescan()
        except OSError as error:
            raise LinguadError(
                f"The models directory {self.root} cannot be used: {error.strerror}; set hub.models_dir to "
                "a directory linguad may write to, or hub.enabled to false."
            ) from error

    async def rescan(self, *, full: bool = False) -> None:
        """Look at the disk again; with `full` also at files in directories that did not change.

        Raises OSError if it cannot be read; what was known then stays.
        """
        await self._change(lambda: self._shelf.scan(full=full))

    async def look(self, kind: str, name: str) -> None:
        """Look at one `model` or `service` again, in full."""
        await self._change(lambda: self._shelf.look(kind, name))

    async def edit(self, kind: str, name: str, work: Callable[[Record], None]) -> None:
        """Change the record of a `model` or `service` on the disk. Raises OSError and what `work` raises."""
        await self._change(lambda: self._shelf.edit(kind, name, work))

    async def place(
        self, kind: str, name: str, move: Callable[[], object], known: Sequence[tuple[str, Stamp, str]] = ()
    ) -> None:
        """Put something into its place or take it away by `move`, and show that at once.

        `known` are paths, stamps and digests of files that come. Raises what `move` raises.
        """

        def work() -> None:
            move()
            for where, stamp, digest in known:
                self._shelf.know(where, stamp, digest)
            self._shelf.look(kind, name)

        await self._change(work)

    async def put_key(self, key: SigningKey) -> None:
        """Add or change a signing key; what it signed is shown accordingly. Raises BadSignature, OSError."""
        await self._change(lambda: self.keys.put(key), afresh=True)

    async def ask(self, work: Callable[[Snapshot], T]) -> T:
        """What `work` makes of the snapshot; of a large one in a thread, so that nobody else waits for it.

        Raises what `work` raises.
        """
        snapshot = self.current
        if len(snapshot.models) + len(snapshot.services) <= LARGE:
            return work(snapshot)
        return await trio.to_thread.run_sync(work, snapshot, limiter=self._askers)

    def unhashed(self) -> list[tuple[str, str, File]]:
        """Kind and id with each file that has no digest yet, in the order in which they are hashed.

        With thousands of files this takes a while.
        """
        return self._shelf.unhashed()

    async def wait_unhashed(self) -> None:
        """Wait until there may be something to hash."""
        await self._unhashed.wait()
        self._unhashed = trio.Event()

    async def hashed(self, done: Sequence[Done], *, last: bool) -> None:
        """Take digests over and show them."""
        await self._change(lambda: self._shelf.take(done, last=last))

    async def watch(self, seconds: float) -> None:
        """Look at the disk every so often, for ever."""
        while True:
            await trio.sleep(seconds)
            try:
                await self.rescan()
            except OSError as error:
                logger.warning("hub_rescan_failed", reason=str(error))

    async def wait_change(self, revision: int) -> None:
        """Wait until the snapshot is another one than `revision`."""
        while self.current.revision == revision:
            await self._changed.wait()

    def since(self, revision: int) -> list[Change] | None:
        """The changes after a revision; None if that is not known any more."""
        if revision == self.current.revision:
            return []
        if not any(change.revision == revision for change in self._history):
            return None
        return [change for change in self._history if change.revision > revision]

    async def _change(self, work: Callable[[], object], *, afresh: bool = False) -> None:
        def do() -> tuple[Snapshot, Change | None, int]:
            work()
            return *self._shelf.compose(self.current, afresh=afresh), len(self._shelf.unhashed())

        async with self._turn:
            self.current, change, waiting = await trio.to_thread.run_sync(do)
            HUB_REVISION.set(self.current.revision)
            HUB_READ_AT.set(self._shelf.read_at)
            HUB_UNHASHED.set(waiting)
            if change is not None:
                self._history.append(change)
                changed, self._changed = self._changed, trio.Event()
                changed.set()
            if waiting:
                self._unhashed.set()
