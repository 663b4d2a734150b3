"""SHA-256 of files, remembered as long as size, time and inode stay the same."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec
import trio
from msgspec import Struct

from linguad import log
from linguad.files import replace_file
from linguad.hub.disk import open_below

BLOCK_BYTES = 1024 * 1024
"""Read at a time; hashing releases the interpreter meanwhile."""

_Known = tuple[int, int, int, str]
logger = log.get(__name__)


class Stamp(Struct, frozen=True, gc=False):
    """What changes when a file is replaced or written."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Stamp:
        """The stamp of a file."""
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ino)


class Hashes:
    """Digests by path below the models directory, kept in one file. For one worker thread at a time."""

    def __init__(self, root: Path) -> None:
        self._path = root / "_hub" / "hashes.json"
        self._known: dict[str, _Known] = {}
        self._changed = False

    def load(self) -> None:
        """Read what the process before knew; a file that cannot be read only costs hashing anew."""
        try:
            self._known = msgspec.json.decode(self._path.read_bytes(), type=dict[str, _Known])
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError) as error:
            logger.warning("hub_hashes_unreadable", reason=str(error))

    def save(self, alive: frozenset[str] | None = None) -> None:
        """Write what changed; with `alive`, forget all other paths. Raises OSError."""
        if alive is not None and (gone := self._known.keys() - alive):
            self._changed = True
            for path in gone:
                del self._known[path]
        if self._changed:
            replace_file(self._path, msgspec.json.encode(self._known))
            self._changed = False

    def get(self, path: str, stamp: Stamp) -> str:
        """The digest in hex; "" if it is not known for the file as it is now."""
        known = self._known.get(path)
        if known is None or known[:3] != (stamp.size, stamp.mtime_ns, stamp.inode):
            return ""
        return known[3]

    def put(self, path: str, stamp: Stamp, digest: str) -> None:
        """Remember a digest."""
        self._known[path] = (stamp.size, stamp.mtime_ns, stamp.inode, digest)
        self._changed = True

    def forget(self, path: str) -> None:
        """Have a file hashed anew."""
        self._changed |= self._known.pop(path, None) is not None


def hash_file(root: Path, path: str) -> tuple[Stamp, str] | None:
    """Stamp and digest of a file below `root`; None if it changed meanwhile.

    For a worker thread started by trio; ends soon after its task is cancelled. Raises OSError.
    """
    digest = hashlib.sha256()
    buffer = bytearray(BLOCK_BYTES)
    view = memoryview(buffer)
    descriptor = open_below(root, path)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        before = Stamp.of(os.fstat(descriptor))
        while count := file.readinto(buffer):
            digest.update(view[:count])
            trio.from_thread.check_cancelled()
        if Stamp.of(os.fstat(descriptor)) != before:
            return None
    return before, digest.hexdigest()
