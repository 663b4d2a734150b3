"""Service packages: fetched, proven, unpacked and switched to (model-manager 10, without running them)."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import trio

from linguad import log
from linguad.files import replace_file
from linguad.models import unzip
from linguad.models.catalog import Variant, WantedFile, newest
from linguad.models.descriptor import Descriptor, platform_id, program, read
from linguad.models.errors import (
    InsufficientSpaceError,
    ModelError,
    NoPreviousVersionError,
    PackageError,
    SignatureError,
    disk_error,
)
from linguad.models.fetch import Fetch
from linguad.models.holding import Holding
from linguad.models.hub import Hub
from linguad.models.locks import Locks
from linguad.models.names import Key, by_age, check_id, check_version
from linguad.models.part import discard
from linguad.models.progress import Gate
from linguad.models.registry import stamp
from linguad.models.signing import Trust

SPACE_FACTOR = 2
"""Free disk that must be there, as a multiple of the zip (10.3)."""

logger = log.get(__name__)

PackageStage = Literal["downloading", "verifying", "extracting", "installing", "completed", "failed"]


class PackageProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far an installation is; sizes in bytes."""

    stage: PackageStage
    service_id: str
    version: str
    platform: str
    downloadedBytes: int | None = None
    totalBytes: int | None = None


class InstalledPackage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record of installed.json; the path is relative to the service's directory."""

    service_id: str
    version: str
    platform: str
    installed_at: str
    install_path: str
    size_bytes: int = 0
    sha256: str = ""
    key_id: str | None = None


class Previous(msgspec.Struct, frozen=True):
    """What was in use before."""

    version: str
    platform: str


class Current(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """current.json: the version in use."""

    service_id: str
    version: str
    platform: str
    activated_at: str
    install_path: str
    previous: Previous | None = None


@dataclass(slots=True, kw_only=True)
class Packages:
    """The packages below one services directory, each service with a directory of its own."""

    root: Path
    hub: Hub
    trust: Trust
    holding: Holding
    """Made with `locks_of(root)`."""
    gate: Gate
    allow_unsigned: bool = False
    """Every use is logged; there is no other way round the signature."""
    tell: Callable[[PackageProgress], object] = lambda _: None

    async def install(self, service_id: str, version: str | None = None, *, activate: bool = True) -> str:
        """Have a package installed, and in use unless told otherwise; its version.

        One that is installed and whole is not fetched again. Whatever fails leaves the one in use as it is.
        Raises PackageError, SignatureError, InsufficientSpaceError, ModelError of other kinds.
        """
        check_id(service_id)
        platform = platform_id()
        variant = await self._variant(service_id, version, platform)
        job = _Job(self, service_id, variant)
        try:
            await self._install(job, activate=activate)
        except ModelError as error:
            job.tell("failed")
            logger.warning(
                "package_install_failed", service=service_id, version=variant.version, reason=str(error)
            )
            raise
        job.tell("completed")
        logger.info("package_installed", service=service_id, version=variant.version, platform=platform)
        return variant.version

    async def _install(self, job: _Job, *, activate: bool) -> None:
        service_id, variant = job.service_id, job.variant
        try:
            async with self.holding.task(Key(service_id, "install"), wait=True):
                if not await trio.to_thread.run_sync(job.is_whole):
                    await self._fetch(job)
                    await trio.to_thread.run_sync(job.unpack)
                if activate:
                    await trio.to_thread.run_sync(self._point, service_id, variant.version, variant.platform)
                    await trio.to_thread.run_sync(self._prune, service_id)
        except OSError as error:
            raise disk_error(error) from error

    async def _variant(self, service_id: str, version: str | None, platform: str) -> Variant:
        if version is not None:
            return await self.hub.variant(service_id, check_version(version), platform)
        offered = [
            one
            for one in (await self.hub.service(service_id, platform)).variants
            if one.platform == platform and one.status == "published"
        ]
        chosen = newest([one.version for one in offered])
        if chosen is None:
            raise PackageError(f"the hub offers no version of {service_id} for {platform}")
        check_version(chosen)
        return next(one for one in offered if one.version == chosen)

    async def _fetch(self, job: _Job) -> None:
        """The zip, complete and proven, at `job.zip`."""
        await trio.to_thread.run_sync(job.check_space)
        self._check_signature(job)
        job.tell("downloading")
        artifact = job.variant.artifact
        wanted = WantedFile("service.zip", artifact.size_bytes, artifact.sha256.lower())
        url = self.hub.at(artifact.url)
        fetch = Fetch(url, job.variant.version, wanted, job.zip, job, self.gate, token=self.hub.token)
        await fetch.run()
        job.tell("verifying")

    def _check_signature(self, job: _Job) -> None:
        variant = job.variant
        payload = {
            "platform": variant.platform,
            "service_id": job.service_id,
            "sha256": variant.artifact.sha256.lower(),
            "version": variant.version,
        }
        if variant.signature is None and self.allow_unsigned:
            logger.warning("package_unsigned", service=job.service_id, version=variant.version)
            return
        self.trust.check(payload, variant.signature, self.hub.url)

    async def activate(self, service_id: str, version: str) -> None:
        """Use an installed version. Raises PackageError, SignatureError if its key is no longer trusted."""
        await self._change(self._point, service_id, check_version(version), platform_id())

    async def rollback(self, service_id: str) -> str:
        """Use the version again that was active before; its name. Raises NoPreviousVersionError."""
        current = await trio.to_thread.run_sync(self.current, check_id(service_id))
        if current is None or current.previous is None:
            raise NoPreviousVersionError(f"{service_id} was never changed over from another version")
        await self._change(self._point, service_id, current.previous.version, current.previous.platform)
        logger.warning("package_rolled_back", service=service_id, version=current.previous.version)
        return current.previous.version

    async def uninstall(self, service_id: str) -> None:
        """Remove all of a service: trees, records and pointer; nothing happens if there is none."""
        await self._change(self._remove, check_id(service_id))

    async def _change(self, work: Callable[..., None], service_id: str, *words: str) -> None:
        try:
            async with self.holding.task(Key(check_id(service_id), "install"), wait=True):
                await trio.to_thread.run_sync(partial(work, service_id, *words))
        except OSError as error:
            raise disk_error(error) from error

    def installed(self, service_id: str) -> dict[str, InstalledPackage]:
        """Records by `version::platform`. For a worker thread."""
        try:
            data = (self._home(service_id) / "installed.json").read_bytes()
            return msgspec.json.decode(data, type=dict[str, InstalledPackage])
        except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
            return {}

    def current(self, service_id: str) -> Current | None:
        """What is in use. For a worker thread."""
        try:
            return msgspec.json.decode((self._home(service_id) / "current.json").read_bytes(), type=Current)
        except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def command(self, service_id: str) -> tuple[list[str], Path, Descriptor]:
        """How the version in use is started: its words, its directory, and what it says about itself.

        For a worker thread. Raises PackageError if nothing is in use.
        """
        current = self.current(service_id)
        if current is None:
            raise PackageError(f"no version of {service_id} is in use here; install it")
        tree = self._home(service_id) / current.install_path
        described = read(tree, service_id, current.version, current.platform)
        here = described.platforms[current.platform]
        cwd = tree / here.exec.cwd
        values = {"${cwd}": str(cwd), "${install_path}": str(tree)}
        words = [program(tree, here)]
        for word in here.exec.args:
            for name, value in values.items():
                word = word.replace(name, value)
            words.append(word)
        return words, cwd, described

    def _home(self, service_id: str) -> Path:
        return self.root / check_id(service_id)

    def _write(self, service_id: str, name: str, value: object) -> None:
        replace_file(self._home(service_id) / name, msgspec.json.format(msgspec.json.encode(value)))

    def _point(self, service_id: str, version: str, platform: str) -> None:
        record = self.installed(service_id).get(f"{version}::{platform}")
        if record is None:
            raise PackageError(f"{service_id} {version} is not installed here; install it")
        if record.key_id is not None and not self.trust.knows(record.key_id):
            raise SignatureError(f"{service_id} {version} is signed by {record.key_id}, no longer trusted")
        now = self.current(service_id)
        if now is not None and (now.version, now.platform) == (version, platform):
            return
        current = Current(
            service_id=service_id,
            version=version,
            platform=platform,
            activated_at=stamp(),
            install_path=record.install_path,
            previous=Previous(now.version, now.platform) if now else None,
        )
        self._write(service_id, "current.json", current)

    def _prune(self, service_id: str) -> None:
        """Keep what is in use and what was before (10.5)."""
        current = self.current(service_id)
        records = self.installed(service_id)
        if current is None:
            return
        kept = {f"{current.version}::{current.platform}"}
        if current.previous:
            kept.add(f"{current.previous.version}::{current.previous.platform}")
        self._write(service_id, "installed.json", {name: records[name] for name in records if name in kept})
        for name in sorted(records.keys() - kept, key=by_age):
            unzip.discard(self._home(service_id) / records[name].install_path)

    def _remove(self, service_id: str) -> None:
        home = self._home(service_id)
        for name in ("current.json", "installed.json"):
            (home / name).unlink(missing_ok=True)
        shutil.rmtree(home, ignore_errors=True)


@dataclass(slots=True)
class _Job:
    """One installation; hears how the zip grows."""

    packages: Packages
    service_id: str
    variant: Variant
    got: int = 0

    @property
    def home(self) -> Path:
        return self.packages.root / self.service_id

    @property
    def name(self) -> str:
        return f"{self.variant.version}-{self.variant.platform}"

    @property
    def zip(self) -> Path:
        return self.home / "_staging" / f"{self.name}.zip.part"

    @property
    def place(self) -> str:
        """Relative to `home`."""
        return f"versions/{self.variant.version}/{self.variant.platform}"

    def tell(self, stage: PackageStage) -> None:
        self.packages.tell(
            PackageProgress(
                stage=stage,
                service_id=self.service_id,
                version=self.variant.version,
                platform=self.variant.platform,
                downloadedBytes=self.got if stage == "downloading" else None,
                totalBytes=self.variant.artifact.size_bytes if stage == "downloading" else None,
            )
        )

    def have(self, count: int) -> None:
        self.got += count
        self.tell("downloading")

    def moved(self, count: int, path: str) -> None:
        self.have(count)

    def lost(self, count: int, *, damaged: bool) -> None:
        self.have(-count)

    def is_whole(self) -> bool:
        """Whether this very package is installed and none of what it needs is missing."""
        self.zip.parent.mkdir(parents=True, exist_ok=True)
        record = self.packages.installed(self.service_id).get(
            f"{self.variant.version}::{self.variant.platform}"
        )
        if record is None or record.sha256 != self.variant.artifact.sha256.lower():
            return False
        try:
            read(self.home / record.install_path, self.service_id, record.version, record.platform)
        except (ModelError, OSError):
            return False
        return True

    def check_space(self) -> None:
        artifact = self.variant.artifact
        needed = max(SPACE_FACTOR * artifact.size_bytes, artifact.unpacked_bytes or 0)
        free = shutil.disk_usage(self.home).free
        if needed > free:
            current = self.packages.current(self.service_id)
            old = [
                one.version
                for one in self.packages.installed(self.service_id).values()
                if current is None or one.version != current.version
            ]
            advice = f"uninstalling {', '.join(old)} makes room" if old else "make room or use another disk"
            raise InsufficientSpaceError(needed, free, advice)

    def unpack(self) -> None:
        """From the proven zip to the installed tree and its record."""
        tree = self.home / "_staging" / f"{self.name}-{secrets.token_hex(4)}"
        tree.mkdir(parents=True)
        try:
            self.tell("extracting")
            size = unzip.unzip(self.zip, tree)
            described = read(tree, self.service_id, self.variant.version, self.variant.platform)
            self.tell("installing")
            _make_executable(tree, program(tree, described.platforms[self.variant.platform]))
            self._swap_in(tree)
        except PackageError:
            # It is the zip that was published, so fetching it once more would not help.
            discard(self.zip)
            raise
        finally:
            unzip.discard(tree)
        signature = self.variant.signature
        record = InstalledPackage(
            service_id=self.service_id,
            version=self.variant.version,
            platform=self.variant.platform,
            installed_at=stamp(),
            install_path=self.place,
            size_bytes=size,
            sha256=self.variant.artifact.sha256.lower(),
            key_id=signature.key_id if signature else None,
        )
        records = self.packages.installed(self.service_id)
        records[f"{record.version}::{record.platform}"] = record
        self.packages._write(self.service_id, "installed.json", records)
        discard(self.zip)

    def _swap_in(self, tree: Path) -> None:
        target = self.home / self.place
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            # Unregistered or damaged: out of the way first, and gone with the staging tree.
            target.rename(tree.with_name(tree.name + ".old"))
        tree.rename(target)
        unzip.discard(tree.with_name(tree.name + ".old"))


def _make_executable(tree: Path, path: str) -> None:
    if Path(path).is_relative_to(tree):
        os.chmod(path, 0o755)


def locks_of(root: Path) -> Locks:
    """The locks of installations below a services directory, which is made. For a worker thread."""
    directory = root / "_locks"
    directory.mkdir(parents=True, exist_ok=True)
    return Locks(directory)
