"""A models directory to try things on, and a whole hub on a free port."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OLD = 1_700_000_000
"""Time of files that have settled, Unix seconds."""


def put(root: Path, path: str, data: bytes | str = b"x", *, at: int | None = OLD) -> Path:
    """Write a file below the models directory."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data.encode() if isinstance(data, str) else data)
    if at is not None:
        os.utime(target, (at, at))
    return target


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def checksums(files: Mapping[str, bytes]) -> str:
    return json.dumps({path: sha(data) for path, data in files.items()})


def package(
    path: Path, service_id: str, version: str, platform: str = "windows-x64", **changes: Any
) -> bytes:
    """A package that can be published; `changes` are members of its service.json."""
    described = {
        "service_id": service_id,
        "version": version,
        "platforms": {
            platform: {
                "exec": {"type": "argv", "program": "python", "args": ["main.py"]},
                "files": {"requires": ["main.py"]},
            }
        },
        **changes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("service.json", "\ufeff" + json.dumps(described))
        file.writestr("main.py", f"print({version!r})\n" * 100)
    return path.read_bytes()
