"""What `linguad doctor` looks at: each check is a function that tells what it found, and never raises.

Nothing is changed by looking: no directory or database is made, no port stays taken.
"""

from __future__ import annotations

import ctypes
import http.client
import os
import re
import resource
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import trio

from linguad.config import Config
from linguad.config.cluster import Cluster
from linguad.errors import LinguadError
from linguad.net.listen import listen
from linguad.net.redis import sentinel
from linguad.net.redis.address import Address, parse
from linguad.net.redis.commands import Redis
from linguad.net.redis.link import Link, Resolver
from linguad.net.redis.status import Limits
from linguad.pools import COMPILED
from linguad.store.database import Database, store_url
from linguad.store.migrate import age

State = Literal["good", "warning", "bad"]

ANSWER_SECONDS = 5.0
"""How long Redis, or a linguad that runs, may take to answer."""

MIN_REDIS = (7, 0)
"""The oldest Redis that forgets the deleted entries of a stream as we rely on (pools-and-cluster 10.3)."""

FILES_BESIDE = 1000
"""Descriptors of a daemon beside those of sessions and downloads: nodes, the store, the log."""

CLOCK_SECONDS = 1.0
"""How far the clock of this machine may be from that of Redis."""

FREE_BAD_BYTES, FREE_LOW_BYTES = 64 * 1024 * 1024, 1024 * 1024 * 1024
"""Less free space than the first keeps the hub from being ready; less than the second is soon used up."""

CLOCK_UNSET = 5
"""What adjtimex(2) returns for a clock that nothing keeps right (TIME_ERROR)."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found, in a sentence; `cure` says what to do unless all is well."""

    check: str
    state: State
    said: str
    cure: str = ""


def good(check: str, said: str) -> Finding:
    """All is well."""
    return Finding(check=check, state="good", said=said)


def warning(check: str, said: str, cure: str) -> Finding:
    """It works, but somebody should know."""
    return Finding(check=check, state="warning", said=said, cure=cure)


def bad(check: str, said: str, cure: str) -> Finding:
    """It does not work."""
    return Finding(check=check, state="bad", said=said, cure=cure)


def check_extension() -> Iterator[Finding]:
    """Whether the compiled modules are in use."""
    if COMPILED:
        yield good("extension", "The compiled modules are in use.")
    else:
        yield warning(
            "extension",
            "The compiled modules are not there, so nodes are chosen in plain Python, which is slower.",
            "Install a C compiler and install linguad again.",
        )


async def check_ports(config: Config) -> list[Finding]:
    """Whether each port is free, or linguad serves there already."""
    wanted = [("scheduler", config.server.host, config.server.port, "server.port")]
    if config.gateway.enabled:
        wanted.append(("gateway", config.gateway.host, config.gateway.port, "gateway.port"))
    if config.hub.enabled:
        wanted.append(("hub", config.hub.host, config.hub.port, "hub.port"))
    return [await _port(*door, reuse_port=config.server.reuse_port) for door in wanted]


async def _port(door: str, host: str, port: int, setting: str, *, reuse_port: bool) -> Finding:
    check = f"port {port}"
    try:
        listeners = await listen(host, port, 1, setting, reuse_port=reuse_port)
    except LinguadError as error:
        if await answers_health(host, port):
            return good(check, f"linguad serves there already ({door}).")
        said, _, cure = str(error).partition("; ")
        return bad(check, f"{said}.", f"{cure[:1].upper()}{cure[1:]}" or f"Change {setting} or its host.")
    for listener in listeners:
        await listener.aclose()
    return good(check, f"It is free for the {door}.")


async def answers_health(host: str, port: int) -> bool:
    """Whether a linguad answers `/health` there; a hub says more than OK."""
    status, body = await get(host, port, "/health")
    return status == 200 and (body == "OK" or body.startswith("{"))


async def get(host: str, port: int, path: str) -> tuple[int, str]:
    """Status and body of a page of a linguad on this machine; status 0 if nobody answers."""
    url = f"http://{f'[{host}]' if ':' in host else host or '127.0.0.1'}:{port}{path}"
    return await trio.to_thread.run_sync(_get, url, abandon_on_cancel=True)


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(errors="replace")
    except (OSError, ValueError, http.client.HTTPException):
        return 0, ""


async def check_redis(settings: Cluster) -> list[Finding]:
    """Whether each Redis can be used, and its clock agrees with ours."""
    urls = [url for url in (settings.redis_url, *settings.redis_urls) if url]
    if not urls:
        return [good("redis", "None is configured: this instance works alone.")]
    return [finding for url in urls for finding in await _redis(url, settings)]


async def _redis(url: str, settings: Cluster) -> list[Finding]:
    try:
        info, now = await _redis_says(_resolver(url, settings))
    except LinguadError as error:
        cure = "See that the server runs and that its address and password are right."
        return [bad("redis", f"It cannot be used: {error}.", cure)]
    found = [_redis_version(str(info["redis_version"])), *_redis_memory(info)]
    if (apart_s := abs(time.time() - now)) > CLOCK_SECONDS:
        said = f"It is {apart_s:.1f} s apart from that of Redis."
        found.append(warning("clock", said, "Let NTP set both clocks, for example with chrony."))
    return found


async def _redis_says(resolve: Resolver) -> tuple[dict[str, object], float]:
    """What a Redis tells of itself, and its time. Raises LinguadError."""
    link = Link(resolve, Limits(), name="doctor", client_name="linguad:doctor")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        try:
            with trio.move_on_after(ANSWER_SECONDS):
                await link.wait_tried()
            redis = Redis(link)
            info, (seconds, microseconds) = await redis.info(), await redis.time()
            said: tuple[dict[str, object], float] | LinguadError = info, seconds + microseconds / 1e6
        except LinguadError as error:
            # not out of the nursery, which would wrap it
            said = error
        nursery.cancel_scope.cancel()
    if isinstance(said, LinguadError):
        raise said
    return said


def _resolver(url: str, settings: Cluster) -> Resolver:
    if url.startswith(sentinel.SCHEMES):
        return sentinel.Sentinels(url, user=settings.sentinel_user, password=settings.sentinel_password)
    address = parse(url)

    async def resolve() -> Address:
        return address

    return resolve


def _redis_version(version: str) -> Finding:
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers >= MIN_REDIS:
        return good("redis", f"Redis {version} answers.")
    wanted = ".".join(map(str, MIN_REDIS))
    return bad("redis", f"Redis {version} is too old.", f"Install Redis {wanted} or a newer one.")


def _redis_memory(info: dict[str, object]) -> Iterator[Finding]:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction" and info.get("maxmemory"):
        yield warning(
            "redis",
            f"It throws away keys when its memory is full ({policy}), and with them who is where.",
            "Set maxmemory-policy noeviction.",
        )


async def check_store(config: Config) -> list[Finding]:
    """Whether the database answers and is of this version."""
    if not (config.gateway.enabled or config.hub.enabled):
        return [good("store", "It is not used: neither gateway nor hub is enabled.")]
    try:
        database = Database(store_url(config.store.url, config.state_dir()))
        if database.file is not None and not database.file.exists():
            return [good("store", f"{database.file} will be made at the first start.")]
        try:
            schema = await database.read(age)
        finally:
            await database.close()
    except LinguadError as error:
        return [bad("store", str(error), "Bring the database up, or change store.url.")]
    match schema:
        case "current":
            return [good("store", f"{database.shown} is of this version.")]
        case "older":
            return [good("store", f"{database.shown} will be brought to this version at the next start.")]
    cure = "Run that version, or give this one a copy that was made before."
    return [bad("store", f"{database.shown} was written by a newer linguad.", cure)]


async def check_files(config: Config, *, strict: bool) -> list[Finding]:
    """Whether linguad may open as many files as it may have peers.

    Each process has its own limit: that of the linguad that runs counts, else of one started from here.
    """
    downloads = config.hub.max_downloads if config.hub.enabled else 0
    needed = config.sessions.max_sessions + downloads + FILES_BESIDE
    allowed, whose, wrong = await _files_of_running(config), "The linguad that runs here", bad
    if allowed is None:
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        whose, wrong = "A linguad started from here", warning
    if allowed == resource.RLIM_INFINITY or allowed >= needed:
        return [good("files", f"{whose} may open {allowed} files at once, {needed} are needed at most.")]
    said = f"{whose} may open only {allowed} files at once, but sessions.max_sessions needs {needed}."
    cure = f"Set LimitNOFILE={needed} in the unit (ulimit -n in a shell), or lower sessions.max_sessions."
    return [(wrong if strict else warning)("files", said, cure)]


async def _files_of_running(config: Config) -> int | None:
    """How many files the linguad that runs with these settings may open; None if none answers."""
    _, metrics = await get(config.server.host, config.server.port, "/metrics")
    found = re.search(r"^process_max_fds (\S+)$", metrics, flags=re.MULTILINE)
    return int(float(found[1])) if found else None


def check_clock() -> Iterator[Finding]:
    """Whether something keeps the clock right."""
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    if state in (-1, CLOCK_UNSET):
        yield warning(
            "clock",
            "Nothing seems to keep the clock of this machine right, and logs, tickets and usage go by it.",
            "Run an NTP client, for example chrony; in a container see that the machine below has one.",
        )
    else:
        yield good("clock", "It is kept right.")


def check_disk(config: Config) -> Iterator[Finding]:
    """Whether the directories can be written, and have room."""
    places = [("state directory", config.state_dir(), "server.state_dir")]
    if config.hub.enabled:
        places.append(("models directory", config.models_dir(), "hub.models_dir"))
    for check, path, setting in places:
        yield _place(check, path, setting)


def _place(check: str, path: Path, setting: str) -> Finding:
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not os.access(there, os.W_OK | os.X_OK) or not there.is_dir():
        return bad(check, f"{path} cannot be written by this user.", f"Change its owner, or set {setting}.")
    free = free_bytes(there)
    room = f"{path} has {free / 1024**3:.1f} GiB free"
    if free < FREE_BAD_BYTES:
        return bad(check, f"{room}, which is not enough to work.", f"Make room, or set {setting}.")
    if free < FREE_LOW_BYTES:
        return warning(check, f"{room}, which is soon used up.", f"Make room, or set {setting}.")
    return good(check, f"{room}.")


def free_bytes(path: Path) -> int:
    """Room on the disk of a directory."""
    return shutil.disk_usage(path).free
