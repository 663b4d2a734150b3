"""One file from the hub onto the disk: resumed, retried and verified (model-manager 4.3, 5)."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import urljoin, urlsplit

import trio

from linguad import log
from linguad.models.answer import Ladder, Step, judge
from linguad.models.catalog import WantedFile
from linguad.models.errors import (
    ChecksumError,
    FileMissingError,
    HubProtocolError,
    ModelError,
    NetworkError,
    SizeMismatchError,
    disk_error,
)
from linguad.models.part import BLOCK_BYTES, Journal, Part, discard
from linguad.models.progress import Gate
from linguad.net.guard import AddressRefused
from linguad.net.http_client import HttpError, Limits, Response, request

LIMITS = Limits(connect_seconds=10.0, headers_seconds=30.0, idle_seconds=60.0, body_bytes=float("inf"))
"""A slow hub is waited for as long as bytes come; a large file takes as long as it takes."""

MAX_REDIRECTS = 3

logger = log.get(__name__)


class Watch(Protocol):
    """Hears how a file grows; `linguad.models.progress.Meter` is one."""

    def have(self, count: int) -> None:
        """Bytes that were there."""
        ...

    def moved(self, count: int, path: str) -> None:
        """Bytes that came."""
        ...

    def lost(self, count: int, *, damaged: bool) -> None:
        """Bytes that are thrown away."""
        ...


class _Transient(Exception):
    """This attempt failed, the next one may not; `pause` is what the hub asks for, s."""

    def __init__(self, text: str, pause: float = 0.0) -> None:
        self.pause = pause
        super().__init__(text)


class Fetch:
    """The way of one file to its part; `run` once."""

    def __init__(
        self,
        url: str,
        version: str,
        wanted: WantedFile,
        part: Path,
        watch: Watch,
        gate: Gate,
        *,
        limits: Limits = LIMITS,
        chance: Callable[[], float] = random.random,
        token: str | None = None,
    ) -> None:
        self._url = url
        self._wanted = wanted
        self._part = Part(part, Journal(url, version, wanted.size_bytes, wanted.sha256))
        self._watch = watch
        self._gate = gate
        self._limits = limits
        self._chance = chance
        self._token = token
        self._restarts = 0

    async def run(self) -> str:
        """Have the whole file, durable, in its part; its sha256.

        Raises NetworkError, HubProtocolError, ChecksumError, DiskError, InsufficientSpaceError. Whatever came
        is kept unless it is wrong. Cancelling keeps it too.
        """
        try:
            await trio.to_thread.run_sync(self._part.open)
            self._watch.have(self._part.size)
            return await self._verified()
        except OSError as error:
            raise disk_error(error) from error
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._part.close)

    async def _verified(self) -> str:
        """The file, complete and right; a wrong one is fetched once more."""
        for last in (False, True):
            await self._complete()
            actual = self._part.sha256()
            if self._wanted.sha256 in (None, actual):
                await trio.to_thread.run_sync(self._part.sync)
                return actual
            logger.warning("model_file_damaged", file=self._wanted.path, url=self._url, sha256=actual)
            await self._start_over(damaged=True)
            if last:
                await trio.to_thread.run_sync(discard, self._part.path)
                raise ChecksumError(self._wanted.path, self._wanted.sha256 or "", actual)
        raise AssertionError("the second time ends above")

    async def _start_over(self, *, damaged: bool = False) -> None:
        self._watch.lost(self._part.size, damaged=damaged)
        await trio.to_thread.run_sync(self._part.empty)

    async def _complete(self) -> None:
        """Ask until all bytes are there."""
        ladder = Ladder()
        while self._part.size < self._wanted.size_bytes:
            before = self._part.size
            try:
                await self._attempt()
                continue
            except _Transient as error:
                problem = error
            pause = ladder.pause(max(0, self._part.size - before), problem.pause, self._chance())
            if pause is None:
                raise NetworkError(f"{self._wanted.path} cannot be downloaded: {problem}")
            logger.info("model_file_retried", file=self._wanted.path, reason=str(problem), in_s=pause)
            await trio.sleep(pause)

    async def _attempt(self) -> None:
        """One request and its redirects. Raises _Transient if another one may get further."""
        url = self._url
        for _ in range(MAX_REDIRECTS + 1):
            try:
                async with request("GET", url, headers=self._headers(), limits=self._limits) as response:
                    location = await self._take(response)
            except HttpError as error:
                if error.kind == "url":
                    raise HubProtocolError(f"the hub's address cannot be used: {error}") from error
                raise _Transient(str(error)) from error
            except AddressRefused as error:
                raise _Transient(str(error)) from error
            if location is None:
                return
            url = self._beside(url, location)
        raise HubProtocolError(f"the hub sends {self._wanted.path} in circles, {MAX_REDIRECTS} times")

    def _headers(self) -> dict[str, str]:
        headers = {"accept-encoding": "identity"}
        if self._part.size:
            headers["range"] = f"bytes={self._part.size}-"
            if self._part.etag:
                headers["if-range"] = self._part.etag
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        return headers

    def _beside(self, url: str, location: str) -> str:
        """Where a redirect leads. Raises HubProtocolError if that is another host."""
        try:
            to = urljoin(url, location)
            beside = urlsplit(to)[:2] == urlsplit(self._url)[:2]
        except ValueError as error:
            raise HubProtocolError(
                f"the hub sends {self._wanted.path} to {location[:80]!r}, which is no address"
            ) from error
        if not beside:
            raise HubProtocolError(
                f"the hub sends {self._wanted.path} to another host, which is not followed"
            )
        return to

    async def _take(self, response: Response) -> str | None:
        """Write what an answer brings; where else to look if it says so."""
        verdict = judge(
            self._part.size, self._wanted.size_bytes, response.status, response.headers, self._part.etag
        )
        match verdict.step:
            case Step.APPEND:
                await self._body(response)
            case Step.REWRITE:
                if self._part.size:
                    await self._start_over()
                await self._body(response)
            case Step.RESTART:
                self._restarts += 1
                if self._restarts > 1:
                    raise HubProtocolError(
                        f"the hub answers ranges of {self._wanted.path} wrongly (status {response.status})"
                    )
                await self._start_over()
            case Step.DONE:
                return None
            case Step.REDIRECT:
                return verdict.location
            case Step.RETRY:
                raise _Transient(f"the hub answers {response.status}", verdict.retry_after)
            case Step.MISSING:
                raise FileMissingError(f"the hub lists {self._wanted.path} and does not have it")
            case Step.REFUSED:
                raise _refusal(response.status, self._wanted.path)
        return None

    async def _body(self, response: Response) -> None:
        """Write a body block by block; what came is written also if the rest does not come."""
        await trio.to_thread.run_sync(self._part.note, response.headers.get("etag", self._part.etag))
        block: list[bytes] = []
        size = 0
        room = self._wanted.size_bytes - self._part.size
        try:
            async for data in response:
                room -= len(data)
                if room < 0:
                    block.clear()
                    await self._start_over()
                    raise SizeMismatchError(
                        f"the hub sends more of {self._wanted.path} than the {self._wanted.size_bytes} bytes "
                        "it announced"
                    )
                block.append(data)
                size += len(data)
                if size >= BLOCK_BYTES:
                    await self._write(block)
                    size = 0
                    await self._gate.passed()
        finally:
            with trio.CancelScope(shield=True):
                await self._write(block)
        if room:
            raise _Transient(f"the hub ended {room} bytes before the end of {self._wanted.path}")

    async def _write(self, block: list[bytes]) -> None:
        if not block:
            return
        try:
            await trio.to_thread.run_sync(self._part.append, *block)
        except OSError:
            # The disk may have taken some of it, which must not be written once more.
            block.clear()
            raise
        self._watch.moved(sum(map(len, block)), self._wanted.path)
        block.clear()


def _refusal(status: int, path: str) -> ModelError:
    if status in (401, 403):
        return HubProtocolError(f"the hub does not give {path} to us (status {status}); give a token for it")
    return HubProtocolError(f"the hub answers {path} in a way that cannot be used (status {status})")
