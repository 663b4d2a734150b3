"""A package's zip onto the disk, whatever somebody put into it (model-manager 10.3, model-hub 11.3).

For worker threads.
"""

from __future__ import annotations

import errno
import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from linguad.models.errors import InvalidIdentifierError, PackageError
from linguad.models.names import check_path
from linguad.models.part import unless_cancelled

MAX_ENTRIES = 200_000
MAX_UNPACKED_BYTES = 60 << 30
MAX_RATIO = 200
"""A package that grows more than this when it is unpacked is a bomb."""

COPY_BYTES = 1 << 20


def unzip(file: Path, into: Path) -> int:
    """Unpack a zip into a directory that exists and is empty; its unpacked size in bytes.

    Nothing is executable then. Raises PackageError, OSError.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            size = _check(entries, file.stat().st_size)
            for entry in entries:
                _extract(archive, entry, into)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise PackageError(f"the package is no zip that can be read: {error}") from error
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):
            raise
        # Not the disk: the zip names a place in itself that does not exist.
        raise PackageError("the package is no zip that can be read: it points outside itself") from error
    return size


def _check(entries: list[zipfile.ZipInfo], packed: int) -> int:
    """Whether all entries may be unpacked side by side; their size. Raises PackageError."""
    if len(entries) > MAX_ENTRIES:
        raise PackageError(f"the package has {len(entries)} entries, more than {MAX_ENTRIES}")
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename.rstrip("/")
        try:
            check_path(name)
        except InvalidIdentifierError as error:
            raise PackageError(f"the package has an entry that would lie elsewhere: {error}") from error
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise PackageError(f"{name!r} in the package is neither file nor directory")
        if name.casefold() in seen:
            raise PackageError(f"{name!r} is in the package twice, but for its capitals")
        seen.add(name.casefold())
    size = sum(entry.file_size for entry in entries)
    if size > MAX_UNPACKED_BYTES or size > MAX_RATIO * max(packed, 1 << 20):
        raise PackageError(f"the package would have {size} bytes, more than such a zip should hold")
    return size


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, into: Path) -> None:
    target = into / entry.filename
    if entry.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    left = entry.file_size
    with archive.open(entry) as packed, open(target, "xb") as unpacked:
        while block := packed.read(COPY_BYTES):
            left -= len(block)
            if left < 0:
                # The list at the end of the zip lied, so what was checked was not this.
                raise PackageError(f"{entry.filename!r} in the package is larger than it says")
            unpacked.write(block)
            unless_cancelled()
    target.chmod(0o644)


def discard(tree: Path) -> None:
    """Delete a tree, if it is there."""
    shutil.rmtree(tree, ignore_errors=True)
