"""Where everything lies on disk (model-manager 1)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from linguad.models.errors import DiskError, InvalidIdentifierError
from linguad.models.names import CHECKSUMS, Key, key, part_name

VARIABLE = "USER_DATA"
"""Environment variable with the data directory, as the old client reads it."""


def data_dir(given: Path | None = None) -> Path:
    """The data directory: as given, else of $USER_DATA, else the user's own."""
    if given is not None:
        return given
    if named := os.environ.get(VARIABLE):
        return Path(named)
    try:
        home = Path.home()
    except RuntimeError:
        return Path("user-data")
    return Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share") / "linguad"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below one data directory."""

    data: Path

    @property
    def models(self) -> Path:
        """The installed versions, one directory each."""
        return self.data / "models"

    @property
    def registry(self) -> Path:
        """The record of installed versions."""
        return self.models / "registry.json"

    @property
    def active(self) -> Path:
        """Which version of each model is in use."""
        return self.models / "active.json"

    @property
    def tasks(self) -> Path:
        """Task locks."""
        return self.models / "in-progress-downloads"

    @property
    def leases(self) -> Path:
        """Locks of those who use a version."""
        return self.models / "in-use"

    @property
    def temp(self) -> Path:
        """Partial downloads."""
        return self.models / "temp"

    @property
    def staging(self) -> Path:
        """Trees on their way in or out."""
        return self.models / "_staging"

    @property
    def services(self) -> Path:
        """Service packages: of $SERVICES_DIR, else below the data directory."""
        named = os.environ.get("SERVICES_DIR")
        return Path(named) if named else self.data / "services"

    def tree(self, one: Key) -> Path:
        """Where a version lies when it is installed."""
        return self.models / one.model_id / one.version

    def part(self, stem: str, path: str) -> Path:
        """Where a file grows; `stem` is that of its version's lock."""
        return self.temp / part_name(stem, path)

    def prepare(self) -> None:
        """Make the directories. Raises DiskError if they cannot be one tree, OSError."""
        for directory in (self.tasks, self.leases, self.temp, self.staging):
            directory.mkdir(parents=True, exist_ok=True)
        devices = {path.stat().st_dev for path in (self.models, self.temp, self.staging)}
        if len(devices) > 1:
            raise DiskError(
                f"{self.models}, its temp and _staging must be on one file system; undo the mounts"
            )

    def trees(self) -> Iterator[Key]:
        """The versions on disk that have a list of their files. Raises OSError."""
        for found in self.models.glob(f"*/*/{CHECKSUMS}"):
            try:
                yield key(found.parent.parent.name, found.parent.name)
            except InvalidIdentifierError:
                continue

    def free(self) -> int:
        """Free bytes. Raises OSError."""
        return shutil.disk_usage(self.models).free
