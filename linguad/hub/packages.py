"""Is this file a package that nodes can install? (model-hub 11.3). For a worker thread."""

from __future__ import annotations

import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec

from linguad.hub.names import BadName, check_path

MAX_ENTRIES = 200_000
MAX_UNPACKED_BYTES = 60 * 1024**3
MAX_RATIO = 200
DESCRIPTOR = "service.json"
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    # damaged offsets, encryption, unknown compression
    *(OSError, EOFError, ValueError, RuntimeError, KeyError),
)
_MAX_DESCRIPTOR = 4 * 1024 * 1024


def problems_of_package(
    path: Path, service_id: str, version: str, platform: str, allowed_programs: Collection[str]
) -> list[str]:
    """What keeps a zip from being published; empty if nothing does. Raises OSError."""
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                problems = list(_entries(archive))
                return problems or list(_descriptor(archive, service_id, version, platform, allowed_programs))
        except _UNREADABLE as error:
            return [f"it is no zip file that can be read: {error}"]


def _entries(archive: zipfile.ZipFile) -> Iterator[str]:
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        yield f"it has {len(entries)} entries; {MAX_ENTRIES} are allowed"
        return
    unpacked = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if unpacked > MAX_UNPACKED_BYTES:
        yield f"unpacked it has {unpacked} bytes; {MAX_UNPACKED_BYTES} are allowed"
    if unpacked > MAX_RATIO * max(packed, 1):
        yield f"it unpacks to more than {MAX_RATIO} times its size"
    seen: set[str] = set()
    for entry in entries:
        # the name as it is in the file: ZipInfo cuts it at a NUL
        name = entry.orig_filename.rstrip("/")
        try:
            check_path(name)
        except BadName as error:
            yield f"the entry {name!r} is not allowed: {error}"
            continue
        if stat.S_ISLNK(entry.external_attr >> 16):
            yield f"the entry {name!r} is a symbolic link"
        if name.casefold() in seen:
            yield f"the entry {name!r} is there twice, for systems that ignore case"
        seen.add(name.casefold())


def _descriptor(
    archive: zipfile.ZipFile,
    service_id: str,
    version: str,
    platform: str,
    allowed_programs: Collection[str],
) -> Iterator[str]:
    names = {entry.filename.rstrip("/") for entry in archive.infolist()}
    if DESCRIPTOR not in names:
        yield f"{DESCRIPTOR} is missing at its root"
        return
    with archive.open(DESCRIPTOR) as file:
        data = file.read(_MAX_DESCRIPTOR)
    try:
        described = msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"), type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        yield f"{DESCRIPTOR} is no JSON object: {error}"
        return
    for member, expected in (("service_id", service_id), ("version", version)):
        if described.get(member) != expected:
            yield f"{DESCRIPTOR}: {member} is {described.get(member)!r}, not {expected!r} as in the address"
    platforms = described.get("platforms")
    own = platforms.get(platform) if isinstance(platforms, dict) else None
    if not isinstance(own, dict):
        yield f"{DESCRIPTOR}: platforms.{platform} is missing"
        return
    files = own.get("files")
    required = files.get("requires", []) if isinstance(files, dict) else []
    for needed in required if isinstance(required, list) else []:
        if str(needed) not in names and not any(name.startswith(f"{needed}/") for name in names):
            yield f"{DESCRIPTOR}: files.requires names {needed!r}, which is not in the package"
    execute = own.get("exec")
    if not isinstance(execute, dict) or execute.get("type") != "argv":
        yield f'{DESCRIPTOR}: platforms.{platform}.exec.type must be "argv"'
        return
    program = execute.get("program")
    if not isinstance(program, str) or (program not in allowed_programs and program not in names):
        allowed = ", ".join(allowed_programs)
        yield f"{DESCRIPTOR}: exec.program must be a file of the package or one of {allowed}"
