"""Which node services the network's hub offers: known without asking, for pages and statistics (P 7.6).

Where the hub runs in this process its catalogue is read; else another hub is asked in the background, and
what it said last holds while it is away (stale-while-revalidate). Who reads never waits and never causes
traffic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import trio
from msgspec import Struct

from linguad import log
from linguad.errors import LinguadError
from linguad.metrics import SERVICES_AGE, SERVICES_FAILURES
from linguad.net.http_client import Limits, request

REFRESH_SECONDS, LONGEST_PAUSE_SECONDS = 30.0, 300.0
"""Pause between two looks at another hub; doubled from the third failure in a row on, up to the longest."""

LIMITS = Limits(connect_seconds=3.0, whole_seconds=20.0)
"""As the original's scheduler had them."""

INDEX = "services/services_index.json"
"""Where a hub keeps its list, below its models directory."""

logger = log.get(__name__)


class Artifact(Struct, frozen=True):
    """The file of a package; `url` is a path on the hub."""

    type: str = "zip"
    url: str = ""
    sha256: str = ""
    size_bytes: int = 0


class Variant(Struct, frozen=True):
    """A package: one version for one platform."""

    artifact: Artifact
    version: str = "1.0.0"
    platform: str = "unknown"


class Service(Struct, frozen=True):
    """A service that nodes can install."""

    service_id: str
    name: str = ""
    latest_version: str = "1.0.0"
    variants: tuple[Variant, ...] = ()


class State(Struct, frozen=True):
    """How fresh the list is; times in Unix ms, 0 for never."""

    fetched_at_ms: int = 0
    last_success_at_ms: int = 0
    fail_count: int = 0
    """Failures in a row."""
    last_error: str | None = None
    skipped: int = 0
    """Entries of the last list that could not be understood."""


class Services(Protocol):
    """What the hub offers, as far as it is known."""

    def listed(self) -> Sequence[Service]:
        """All services, as the hub ordered them."""
        ...

    def state(self) -> State:
        """How fresh that is."""
        ...


class OwnServices:
    """Those of the hub in this process; `answer` gives what it answers to `/api/services` at the moment."""

    def __init__(self, answer: Callable[[], bytes]) -> None:
        self._answer = answer
        self._read = b""
        self._known: tuple[list[Service], int] = ([], 0)

    def listed(self) -> Sequence[Service]:
        """All services."""
        answer = self._answer()
        if answer is not self._read:
            self._read, self._known = answer, parse(answer)
        return self._known[0]

    def state(self) -> State:
        """Always fresh."""
        now = int(time.time() * 1000)
        return State(now, now)


class NoServices:
    """Where there is no hub to ask."""

    def listed(self) -> Sequence[Service]:
        """None."""
        return ()

    def state(self) -> State:
        """Never fetched."""
        return State()


class RemoteServices:
    """Those of another hub. Mutable state: the list that came last, and how fresh it is."""

    def __init__(self, url: str, index: Path, *, limits: Limits = LIMITS) -> None:
        """`index`, a services_index.json, counts while the hub has never answered; it may not exist."""
        self._url = url.rstrip("/") + "/api/services"
        self._index = index
        self._limits = limits
        self._services: Sequence[Service] = ()
        self._state = State()
        SERVICES_AGE.set_function(self._age)

    def listed(self) -> Sequence[Service]:
        """All services, as the hub said them last."""
        return self._services

    def state(self) -> State:
        """How fresh that is."""
        return self._state

    async def run(self) -> None:
        """Keep the list fresh, for ever."""
        while True:
            await self.refresh()
            await trio.sleep(pause_after(self._state.fail_count))

    async def refresh(self) -> None:
        """Ask once; a failure changes nothing but the state."""
        now = int(time.time() * 1000)
        try:
            async with request("GET", self._url, limits=self._limits) as response:
                if response.status != 200:
                    raise LinguadError(f"the hub answers with status {response.status}")
                self._services, skipped = parse(await response.read())
        except LinguadError as error:
            await self._failed(str(error), now)
        else:
            if self._state.fail_count:
                logger.info("hub_services_back", url=self._url, services=len(self._services))
            self._state = State(now, now, skipped=skipped)
        SERVICES_FAILURES.set(self._state.fail_count)

    def _age(self) -> float:
        last = self._state.last_success_at_ms
        return max(0.0, time.time() - last / 1000) if last else 0.0

    async def _failed(self, reason: str, now: int) -> None:
        before = self._state
        if not before.fail_count:
            logger.warning("hub_services_unknown", url=self._url, reason=reason)
        said = f"hub_failed: {reason}"
        if not before.last_success_at_ms and (found := await trio.to_thread.run_sync(_read, self._index)):
            # never over what a hub has said
            self._services = found
            said += "; used_local_index=true"
        self._state = State(now, before.last_success_at_ms, before.fail_count + 1, said, before.skipped)


def pause_after(failures: int) -> float:
    """How long to wait after so many failures in a row, s."""
    if failures < 3:
        return REFRESH_SECONDS
    return min(LONGEST_PAUSE_SECONDS, REFRESH_SECONDS * 2.0 ** min(failures - 2, 10))


def parse(answer: bytes) -> tuple[list[Service], int]:
    """The services of an answer of `/api/services`, and how many entries could not be understood.

    Raises LinguadError if it is no such answer.
    """
    try:
        entries = msgspec.json.decode(answer, type=dict[str, Any])["services"]
        return _convert(msgspec.convert(entries, list[Any]))
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError) as error:
        raise LinguadError(f"the answer is no list of services: {error}") from error


def _read(index: Path) -> list[Service]:
    """The services of an index file; none if there is no usable one."""
    try:
        return _convert(list(msgspec.json.decode(index.read_bytes(), type=dict[str, Any]).values()))[0]
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return []


def _convert(entries: list[Any]) -> tuple[list[Service], int]:
    found = []
    for entry in entries:
        try:
            one = msgspec.convert(entry, Service)
        except msgspec.ValidationError:
            continue
        found.append(one if one.name else msgspec.structs.replace(one, name=one.service_id))
    return found, len(entries) - len(found)
