"""A file that grows: the part, and the journal beside it that says what it is a part of (model-manager 4.3).

All functions block; they are for worker threads, one at a time for a part. Disk errors come out as OSError.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import msgspec
import trio

from linguad.files import replace_file
from linguad.models.locks import boot_id

BLOCK_BYTES = 1 << 20
"""Read and written at a time."""

SYNC_BYTES = 64 << 20
"""After so much more the disk is told to keep it for good, and the journal says so."""


class Journal(msgspec.Struct, frozen=True):
    """What the bytes of a part belong to; a part whose journal says something else is worth nothing."""

    url: str
    version: str
    size_bytes: int
    sha256: str | None
    etag: str | None = None
    """Strong validator of the hub, for If-Range."""
    durable_bytes: int = 0
    """So much survives a loss of power."""
    boot: str = ""
    """The run of the machine that wrote the rest, which is only believed while that run lasts."""


class Part:
    """A part and its running digest. Mutable state: the open file, the digest, how much is durable."""

    def __init__(self, path: Path, journal: Journal) -> None:
        self.path = path
        self.size = 0
        """Bytes there are."""
        self.etag: str | None = None
        self._journal_path = journal_of(path)
        self._wanted = journal
        self._digest = hashlib.sha256()
        self._durable = 0
        self._file: int | None = None

    def open(self) -> None:
        """Open the part and hash what is there."""
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        trusted = self._trusted(os.fstat(self._file).st_size)
        os.ftruncate(self._file, trusted)
        while self.size < trusted:
            block = os.pread(self._file, BLOCK_BYTES, self.size)
            if not block:
                break
            self._digest.update(block)
            self.size += len(block)
            unless_cancelled()

    def _trusted(self, length: int) -> int:
        """How many of the bytes in the file may be believed to be the first ones of what is wanted."""
        found = read_journal(self.path)
        wanted = self._wanted
        if found is None or (found.url, found.version, found.size_bytes, found.sha256) != (
            wanted.url,
            wanted.version,
            wanted.size_bytes,
            wanted.sha256,
        ):
            return 0
        self.etag = found.etag
        self._durable = min(found.durable_bytes, length)
        trusted = length if found.boot == boot_id() else self._durable
        return trusted if trusted <= wanted.size_bytes else 0

    def note(self, etag: str | None) -> None:
        """Write the journal, before the first byte of an answer is."""
        self.etag = etag if etag and etag.startswith('"') else None
        self._write_journal()

    def append(self, *pieces: bytes) -> None:
        """Add bytes at the end."""
        assert self._file is not None, "a part is open while it grows"
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                written = os.pwrite(self._file, rest, self.size)
                self._digest.update(rest[:written])
                self.size += written
                rest = rest[written:]
        if self.size - self._durable >= SYNC_BYTES:
            self.sync()

    def sync(self) -> None:
        """Make what is there durable."""
        assert self._file is not None, "a part is open while it grows"
        os.fsync(self._file)
        self._durable = self.size
        self._write_journal()

    def empty(self) -> None:
        """Start over; the journal goes too, because its validator belongs to what is thrown away."""
        assert self._file is not None, "a part is open while it grows"
        os.ftruncate(self._file, 0)
        self.size = self._durable = 0
        self.etag = None
        self._digest = hashlib.sha256()
        self._journal_path.unlink(missing_ok=True)

    def sha256(self) -> str:
        """Digest of all bytes there are."""
        return self._digest.hexdigest()

    def close(self) -> None:
        """Let go of the file, which stays unless nothing came."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            if not self.size and self._wanted.size_bytes:
                discard(self.path)

    def _write_journal(self) -> None:
        journal = msgspec.structs.replace(
            self._wanted, etag=self.etag, durable_bytes=self._durable, boot=boot_id()
        )
        replace_file(self._journal_path, msgspec.json.encode(journal))


def journal_of(part: Path) -> Path:
    """The journal beside a part."""
    return part.with_name(part.name + ".json")


def read_journal(part: Path) -> Journal | None:
    """The journal of a part, None if there is none that can be read."""
    try:
        return msgspec.json.decode(journal_of(part).read_bytes(), type=Journal)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def discard(part: Path) -> None:
    """Remove a part and its journal."""
    with suppress(FileNotFoundError):
        part.unlink()
    journal_of(part).unlink(missing_ok=True)


def unless_cancelled() -> None:
    """Between two blocks: end the work of this thread if the task that waits for it was cancelled.

    A large file takes minutes to read, and its lock is wanted back within a second. Raises trio.Cancelled;
    nothing happens outside trio's threads.
    """
    with suppress(RuntimeError):
        trio.from_thread.check_cancelled()


def hash_file(path: Path) -> tuple[int, str]:
    """Size and sha256 of a file, in constant memory."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            size += len(block)
            unless_cancelled()
    return size, digest.hexdigest()
