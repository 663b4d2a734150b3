"""service.json: what a package says about itself (model-manager 10.2)."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from platform import machine
from typing import Any

import msgspec

from linguad.models.errors import InvalidIdentifierError, PackageError
from linguad.models.names import check_path

SYSTEM_PROGRAMS = frozenset({"python", "python3"})
"""Programs that a package need not bring along."""


class Exec(msgspec.Struct, frozen=True):
    """How a service is started; never through a shell."""

    program: str
    type: str = "argv"
    args: list[str] = []
    cwd: str = "."


class Files(msgspec.Struct, frozen=True):
    """What must be in the package."""

    requires: list[str] = []
    optional: list[str] = []


class OnPlatform(msgspec.Struct, frozen=True):
    """A service on one platform."""

    exec: Exec
    entrypoint: str = ""
    default_port: int = 0
    files: Files = Files()


class HealthCheck(msgspec.Struct, frozen=True):
    """How to see that a service works; times in ms."""

    type: str = "http"
    endpoint: str = "/health"
    timeout_ms: int = 3000
    startup_grace_ms: int = 20_000


class Descriptor(msgspec.Struct, frozen=True):
    """A whole service.json."""

    service_id: str
    version: str
    platforms: dict[str, OnPlatform]
    health_check: HealthCheck = HealthCheck()
    env_schema: dict[str, Any] = {}
    resources_hint: Any = None


def platform_id() -> str:
    """The platform of this machine, as packages are published for it. Raises PackageError for any other."""
    system = {"linux": "linux", "darwin": "darwin", "win32": "windows"}.get(sys.platform)
    processor = {"x86_64": "x64", "amd64": "x64", "arm64": "arm64", "aarch64": "arm64"}.get(machine().lower())
    found = f"{system}-{processor}"
    if found not in ("linux-x64", "windows-x64", "darwin-x64", "darwin-arm64"):
        raise PackageError(f"no packages are published for {sys.platform} on {machine()}")
    return found


def read(tree: Path, service_id: str, version: str, platform: str) -> Descriptor:
    """The descriptor of an unpacked package, if it is for exactly this and the package is whole.

    Later descriptors (`id`, `exec.command`, `port`) are understood too. For a worker thread. Raises
    PackageError, OSError.
    """
    try:
        found = msgspec.json.decode((tree / "service.json").read_text("utf-8-sig"))
        described = msgspec.convert(_mapped(found, platform), Descriptor)
    except FileNotFoundError as error:
        raise PackageError("the package has no service.json at its root") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise PackageError(f"service.json of the package cannot be used: {error}") from error
    if (described.service_id, described.version) != (service_id, version):
        raise PackageError(
            f"the package says it is {described.service_id} {described.version}, not {service_id} {version}"
        )
    if (here := described.platforms.get(platform)) is None:
        raise PackageError(f"service.json of {service_id} knows nothing of {platform}")
    _check(tree, here)
    return described


def _check(tree: Path, here: OnPlatform) -> None:
    if here.exec.type != "argv":
        raise PackageError(f"exec.type is {here.exec.type!r}; only argv is known, because shells are not")
    for path in here.files.requires:
        if not _inside(tree, path).is_file():
            raise PackageError(f"{path!r} is required by service.json and not in the package")
    program(tree, here)


def program(tree: Path, here: OnPlatform) -> str:
    """The program that starts a service: a file of the package, or one of the system that may be used.

    Raises PackageError.
    """
    name = here.exec.program
    if name in SYSTEM_PROGRAMS and not (tree / name).is_file():
        if (found := shutil.which(name)) is None:
            raise PackageError(f"the package needs {name}, which is not installed on this machine")
        return found
    path = _inside(tree, name)
    if not path.is_file():
        raise PackageError(f"exec.program {name!r} is neither in the package nor one of the system's")
    return str(path)


def _inside(tree: Path, path: str) -> Path:
    try:
        return tree / check_path(path)
    except InvalidIdentifierError as error:
        raise PackageError(f"service.json names a path outside the package: {path!r}") from error


def _mapped(found: Any, platform: str) -> Any:
    """A later descriptor in the form of the documented one; any other as it is."""
    if "service_id" in found or "id" not in found:
        return found
    how = found["exec"]
    here = {
        "entrypoint": how["command"],
        "exec": {"program": how["command"], "args": how.get("args", []), "cwd": how.get("cwd", ".")},
        "default_port": found.get("port", 0),
    }
    return {
        "service_id": found["id"],
        "version": found.get("version", "1.0.0"),
        "platforms": {platform: here},
        "env_schema": found.get("env", {}),
    }
