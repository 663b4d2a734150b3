"""Files below the models directory: opened without following links, moved and removed for good."""

from __future__ import annotations

import os
from pathlib import Path

_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def open_below(root: Path, path: str) -> int:
    """A descriptor of the file `path` below `root`; no part of `path` may be a symbolic link.

    Raises OSError; `path` has been checked to have no `..`. O_NONBLOCK: a FIFO
    does not wait for its writer.
    """
    *directories, name = path.split("/")
    held = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for directory in directories:
            below = os.open(directory, _STEP, dir_fd=held)
            os.close(held)
            held = below
        return os.open(name, _FILE, dir_fd=held)
    finally:
        os.close(held)


def sync_directory(path: Path) -> None:
    """Have the names in a directory survive a crash of the machine. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(top: Path) -> None:
    """Have a directory with all that is in it survive a crash of the machine. Raises OSError."""
    for directory, _, names in os.walk(top):
        for name in names:
            descriptor = os.open(Path(directory) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(directory))


def make_directories(top: Path, path: Path) -> None:
    """Make `path` below `top`, so that every new name in between survives a crash. Raises OSError."""
    if path == top or path.exists():
        return
    make_directories(top, path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def move_into_place(source: Path, target: Path, root: Path) -> None:
    """Make a finished directory appear under its name in one step. Raises FileExistsError if it is taken."""
    make_directories(root, target.parent)
    if target.exists():
        raise FileExistsError(target)
    # an empty directory would be replaced by rename, and no published version is empty
    os.rename(source, target)
    sync_directory(target.parent)
    sync_directory(source.parent)


def put_file(path: Path, data: bytes) -> None:
    """Put `data` in place of a file that everybody may read, all or nothing. Raises OSError."""
    fresh = path.with_name(f".{path.name}.tmp")
    with open(fresh, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    sync_directory(path.parent)
