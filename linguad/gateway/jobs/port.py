"""What asynchronous translations need of other parts: a store, files, and the translating itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from linguad.core.speech_job import SpeechJob
from linguad.core.tenant import Caller


class Store(Protocol):
    """Where jobs are kept; methods raise StoreError."""

    async def add(self, job: SpeechJob) -> None:
        """Keep a new job."""
        ...

    async def find(self, job_id: str) -> SpeechJob | None:
        """A job, None if there is none."""
        ...

    async def move(self, job_id: str, step: Callable[[SpeechJob], SpeechJob | None]) -> SpeechJob | None:
        """Take a job one step further; None if that is not possible."""
        ...

    async def remove(self, job_id: str) -> None:
        """Forget a job."""
        ...

    async def unfinished(self) -> list[SpeechJob]:
        """Every open job, the oldest first."""
        ...

    async def sweep(self, before: float) -> int:
        """Remove what ended before a moment."""
        ...


class Files(Protocol):
    """Where recordings are kept; methods raise OSError."""

    async def write(self, job_id: str, audio: bytes) -> None:
        """Keep a recording."""
        ...

    async def read(self, job_id: str) -> bytes:
        """A recording."""
        ...

    async def remove(self, job_id: str) -> None:
        """Remove a recording, if it is there."""
        ...

    async def sizes(self) -> dict[str, int]:
        """The bytes of every recording, by job."""
        ...

    async def sweep_halves(self) -> None:
        """Remove what a crash left half written."""
        ...


class Work(Protocol):
    """What a job is about."""

    async def prepare(self, caller: Caller, fields: Mapping[str, str], audio: bytes) -> Any:
        """What is asked for, checked; for `translate`. Raises Problem."""
        ...

    async def translate(self, caller: Caller, prepared: Any, address: str) -> dict[str, Any]:
        """The result, as plain data. Raises Problem."""
        ...
