"""Versions into and out of their place, in one step each (model-manager 6.1, 6.2).

All functions block; they are for worker threads of whoever holds the version's task lock. Disk errors come
out as OSError.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from linguad import log
from linguad.models.catalog import checksum_text
from linguad.models.errors import InvalidIdentifierError
from linguad.models.layout import Layout
from linguad.models.locks import Held, Locks
from linguad.models.names import CHECKSUMS, Key, key, url_path
from linguad.models.part import discard, hash_file, read_journal
from linguad.models.registry import InstalledFile

logger = log.get(__name__)


def install(layout: Layout, one: Key, parts: dict[str, Path], digests: dict[str, str]) -> None:
    """Put complete parts in place as one tree, which is there as a whole or not at all.

    The parts stay, as second names of the same files, until `drop_parts`: an interrupted installation has
    them still.
    """
    tree = _staged(layout, "new", one)
    for path, part in parts.items():
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        _second_name(part, target)
        target.chmod(0o644)
    with open(tree / CHECKSUMS, "xb") as file:
        file.write(checksum_text(digests))
        file.flush()
        os.fsync(file.fileno())
    for directory in {tree, *(target.parent for target in map(tree.joinpath, parts))}:
        directory.chmod(0o755)
        _sync_directory(directory)
    _swap_in(layout, one, tree)
    shutil.rmtree(tree.parent.parent, ignore_errors=True)


def _staged(layout: Layout, kind: str, one: Key) -> Path:
    """A fresh directory below staging whose path tells what it is: new, old or del; and of which version."""
    tree = layout.staging / f"{kind}_{secrets.token_hex(6)}" / one.model_id / one.version
    tree.parent.mkdir(parents=True)
    if kind == "new":
        tree.mkdir()
    return tree


def _second_name(part: Path, target: Path) -> None:
    try:
        os.link(part, target)
    except OSError:
        # A file system without hard links; an interruption then costs this file.
        part.rename(target)


def _swap_in(layout: Layout, one: Key, tree: Path) -> None:
    place = layout.tree(one)
    place.parent.mkdir(mode=0o755, exist_ok=True)
    if place.exists():
        old = _staged(layout, "old", one)
        place.rename(old)
        try:
            tree.rename(place)
        except OSError:
            old.rename(place)
            raise
        shutil.rmtree(old.parent.parent, ignore_errors=True)
    else:
        try:
            tree.rename(place)
        except FileNotFoundError:
            # Somebody removed the last other version, and the model's directory with it.
            place.parent.mkdir(mode=0o755, exist_ok=True)
            tree.rename(place)
    _sync_directory(place.parent)
    _sync_directory(layout.models)


def remove(layout: Layout, one: Key) -> None:
    """Take a version out of its place, then delete it."""
    out = _staged(layout, "del", one)
    with suppress(FileNotFoundError):
        layout.tree(one).rename(out)
    with suppress(OSError):
        layout.tree(one).parent.rmdir()
    shutil.rmtree(out.parent.parent)


def drop_parts(layout: Layout, one: Key) -> None:
    """Delete the parts of a version and their journals.

    The journals tell whose they are. The names on disk do not: those of m@1.0.0 begin as those of m@1 do.
    """
    for part, _ in _parts(layout, *one):
        discard(part)


def begun(layout: Layout, model_id: str) -> set[str]:
    """The versions of a model that have parts."""
    return {version for _, version in _parts(layout, model_id)}


def _parts(layout: Layout, *place: str) -> Iterator[tuple[Path, str]]:
    """The parts of what lies below a place at the hub, such as a model or a version; and their versions."""
    below = f"/storage/models/{url_path(*place)}/"
    for journal in layout.temp.glob("*.part.json"):
        part = journal.with_suffix("")
        found = read_journal(part)
        if found is not None and below in found.url:
            yield part, found.version


def recover(layout: Layout, locks: Locks) -> None:
    """Undo what was interrupted: an old tree goes back, everything else in staging goes (2.3)."""
    for one, directory in _leftovers(layout):
        try:
            lock = locks.take(one)
        except Held:
            continue
        try:
            _clear(layout, one, directory)
        finally:
            locks.release(lock)
    for directory in layout.models.glob("[!_]*/*/"):
        # An old client leaves empty directories of interrupted installations; `rmdir` takes no others.
        if directory.parent not in (layout.temp, layout.tasks, layout.leases):
            with suppress(OSError):
                directory.rmdir()


def _clear(layout: Layout, one: Key, directory: Path) -> None:
    tree, place = directory / one.model_id / one.version, layout.tree(one)
    if directory.name.startswith("old_") and tree.exists() and not place.exists():
        place.parent.mkdir(exist_ok=True)
        tree.rename(place)
    logger.info("model_leftovers_removed", model=one.model_id, version=one.version, what=directory.name)
    shutil.rmtree(directory, ignore_errors=True)


def _leftovers(layout: Layout) -> Iterator[tuple[Key, Path]]:
    for directory in layout.staging.iterdir():
        found = next(iter(directory.glob("*/*")), None)
        if found is None:
            # One that is being made may be empty for a moment; it is then not empty when it is removed.
            with suppress(OSError):
                for inner in directory.glob("*"):
                    inner.rmdir()
                directory.rmdir()
            continue
        with suppress(InvalidIdentifierError):
            yield key(found.parent.name, found.name), directory


def damaged(tree: Path, files: list[InstalledFile]) -> str | None:
    """The first file of a tree that is not as it was installed; None if all are."""
    if not files:
        return CHECKSUMS
    for file in files:
        try:
            size, digest = hash_file(tree / file.path)
        except OSError:
            return file.path
        if digest != file.sha256 or file.size_bytes not in (0, size):
            return file.path
    return None


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
