"""Service packages: what is installed was signed, is whole, and lies where it should."""

from __future__ import annotations

import base64
import errno
import io
import json
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import PATIENCE_S
from played_hub import PlayedHub, played_hub, sha256

from linguad import log
from linguad.cli import main
from linguad.models.catalog import canonical
from linguad.models.descriptor import platform_id
from linguad.models.errors import (
    DiskError,
    InsufficientSpaceError,
    ModelError,
    NoPreviousVersionError,
    PackageError,
    SignatureError,
)
from linguad.models.manager import ModelManager, Settings
from linguad.models.packages import PackageProgress, Packages
from linguad.models.signing import Trust, TrustedKey
from linguad.models.unzip import unzip

HERE = platform_id()
SECRET = Ed25519PrivateKey.generate()
KEY = TrustedKey("k1", base64.b64encode(SECRET.public_key().public_bytes_raw()).decode())


def descriptor(version: str, **changes: Any) -> dict[str, Any]:
    on_platform = {
        "entrypoint": "app/main.py",
        "exec": {"type": "argv", "program": "python3", "args": ["${install_path}/app/main.py"], "cwd": "."},
        "default_port": 6007,
        "files": {"requires": ["app/main.py"]},
    }
    return {
        "service_id": "svc",
        "version": version,
        "platforms": {HERE: on_platform},
        "health_check": {
            "type": "http",
            "endpoint": "/health",
            "timeout_ms": 3000,
            "startup_grace_ms": 10000,
        },
        "env_schema": {"SERVICE_PORT": "int"},
    } | changes


def packed(files: dict[str, bytes | str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def package(version: str, **changes: Any) -> bytes:
    # PowerShell writes a byte order mark.
    text = "\ufeff" + json.dumps(descriptor(version, **changes))
    return packed({"service.json": text, "app/main.py": f"print('{version}')", "models/m.bin": b"m" * 9999})


class Publisher:
    """Puts packages on a hub, signed."""

    def __init__(self, hub: PlayedHub) -> None:
        self.hub = hub
        self.variants: list[dict[str, Any]] = []

    def publish(self, version: str, data: bytes | None = None, **changes: Any) -> dict[str, Any]:
        data = package(version) if data is None else data
        url = f"/storage/services/svc/{version}/{HERE}/service.zip"
        payload = {"platform": HERE, "service_id": "svc", "sha256": sha256(data), "version": version}
        signature = {
            "alg": "ed25519",
            "key_id": "k1",
            "value_b64": base64.b64encode(SECRET.sign(canonical(payload))).decode(),
            "signed_payload": payload,
        }
        artifact = {"type": "zip", "url": url, "sha256": sha256(data), "size_bytes": len(data)}
        variant = {
            "version": version,
            "platform": HERE,
            "artifact": artifact,
            "signature": signature,
        } | changes
        self.variants.append(variant)
        service = {"service_id": "svc", "name": "S", "latest_version": version, "variants": self.variants}
        self.hub.extra[url] = 200, data
        self.hub.extra["/api/services"] = 200, json.dumps({"services": [service]}).encode()
        self.hub.extra[f"/api/services/svc/{version}/{HERE}"] = 200, json.dumps(variant).encode()
        return variant


@pytest.fixture
async def publisher() -> AsyncIterator[Publisher]:
    async with played_hub() as hub:
        yield Publisher(hub)


@asynccontextmanager
async def packages(publisher: Publisher, data: Path, trust: Trust | None = None) -> AsyncIterator[Packages]:
    settings = Settings(data=data, hub=publisher.hub.url, trust=Trust([KEY]) if trust is None else trust)
    with trio.fail_after(PATIENCE_S):
        async with ModelManager.open(settings) as manager:
            yield await manager.packages()


async def test_the_newest_is_installed_and_used(publisher: Publisher, tmp_path: Path) -> None:
    for version in ("1.9.0", "1.10.0", "2.0.0-rc.1"):
        publisher.publish(version)
    told: list[PackageProgress] = []
    async with packages(publisher, tmp_path) as found:
        found.tell = told.append
        assert await found.install("svc") == "1.10.0"
        home = tmp_path / "services/svc"
        tree = home / f"versions/1.10.0/{HERE}"
        assert (tree / "app/main.py").read_text() == "print('1.10.0')"
        assert not list((home / "_staging").iterdir())
        record = json.loads((home / "installed.json").read_text())[f"1.10.0::{HERE}"]
        assert (record["key_id"], record["install_path"]) == ("k1", f"versions/1.10.0/{HERE}")
        words, cwd, described = await trio.to_thread.run_sync(found.command, "svc")
        assert words[1:] == [f"{tree}/app/main.py"]
        assert words[0].endswith("python3")
        assert (cwd, described.health_check.startup_grace_ms) == (tree / ".", 10_000)
        stages = list(dict.fromkeys(progress.stage for progress in told))
        assert stages == ["downloading", "verifying", "extracting", "installing", "completed"]

        asked = len(publisher.hub.asked)
        assert await found.install("svc", "1.10.0") == "1.10.0"
        assert [one.path for one in publisher.hub.asked[asked:]] == [f"/api/services/svc/1.10.0/{HERE}"]


async def test_versions_come_go_and_come_back(publisher: Publisher, tmp_path: Path) -> None:
    async with packages(publisher, tmp_path) as found:
        for version in ("1.0.0", "1.1.0", "1.2.0"):
            publisher.publish(version)
            await found.install("svc")
        home = tmp_path / "services/svc"
        assert sorted(found.installed("svc")) == [f"1.1.0::{HERE}", f"1.2.0::{HERE}"]
        assert not (home / f"versions/1.0.0/{HERE}").exists()
        assert await found.rollback("svc") == "1.1.0"
        current = found.current("svc")
        assert current is not None
        assert (current.version, current.previous and current.previous.version) == ("1.1.0", "1.2.0")
        with pytest.raises(PackageError, match="not installed"):
            await found.activate("svc", "1.0.0")
        await found.uninstall("svc")
        assert not home.exists()
        assert found.current("svc") is None
        with pytest.raises(NoPreviousVersionError):
            await found.rollback("svc")


async def test_a_key_that_is_no_longer_trusted_stops_installed_versions(
    publisher: Publisher, tmp_path: Path
) -> None:
    async with packages(publisher, tmp_path) as found:
        publisher.publish("1.0.0")
        await found.install("svc", activate=False)
    async with packages(publisher, tmp_path, Trust()) as found:
        with pytest.raises(SignatureError, match="no longer trusted"):
            await found.activate("svc", "1.0.0")


def tampered(data: bytes) -> bytes:
    return data[:100] + bytes([data[100] ^ 1]) + data[101:]


async def test_what_was_tampered_with_is_refused_and_the_old_one_stays(
    publisher: Publisher, tmp_path: Path
) -> None:
    async with packages(publisher, tmp_path) as found:
        publisher.publish("1.0.0")
        await found.install("svc")
        good = publisher.publish("2.0.0")
        url = good["artifact"]["url"]
        publisher.hub.extra[url] = 200, tampered(publisher.hub.extra[url][1])
        with pytest.raises(ModelError, match="has sha256"):
            await found.install("svc", "2.0.0")
        for number, changes in enumerate(
            (
                {"signature": None},
                {"signature": good["signature"]},
                {"signature": good["signature"] | {"key_id": "k2"}},
                {"signature": good["signature"] | {"signed_payload": {}}},
            )
        ):
            publisher.publish(f"3.{number}.0", **changes)
            with pytest.raises(SignatureError):
                await found.install("svc", f"3.{number}.0")
        current = found.current("svc")
        assert current is not None
        assert current.version == "1.0.0"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"no zip", "no zip"),
        (packed({"app/main.py": "x"}), "no service.json"),
        (packed({"service.json": "{"}), "cannot be used"),
        (packed({"service.json": json.dumps(descriptor("1.0.0"))}), "required by"),
        (package("9.9.9"), "not svc 1.0.0"),
        (package("1.0.0", platforms={}), "knows nothing of"),
        (packed({"../evil": "x"}), "lie elsewhere"),
        (packed({"/evil": "x"}), "lie elsewhere"),
        (packed({"a/B": "x", "A/b": "x"}), "twice"),
        (packed({"zeros": bytes(300 << 20)}), "more than such a zip"),
    ],
)
async def test_packages_that_are_none(publisher: Publisher, tmp_path: Path, data: bytes, why: str) -> None:
    async with packages(publisher, tmp_path) as found:
        publisher.publish("1.0.0", data)
        with pytest.raises(PackageError, match=why):
            await found.install("svc", "1.0.0")
        assert found.installed("svc") == {}
        assert not [one for one in (tmp_path / "services/svc/_staging").iterdir() if one.is_dir()]
    assert not await trio.to_thread.run_sync(lambda: list(tmp_path.glob("**/evil")))


async def test_programs_are_those_of_the_package_or_a_few_of_the_system(
    publisher: Publisher, tmp_path: Path
) -> None:
    async with packages(publisher, tmp_path) as found:
        for number, program in enumerate(("sh", "../../bin/sh", "/bin/sh", "app/none")):
            version = f"1.{number}.0"
            described = descriptor(version)
            described["platforms"][HERE]["exec"]["program"] = program
            data = packed({"service.json": json.dumps(described), "app/main.py": "x"})
            publisher.publish(version, data)
            with pytest.raises(PackageError):
                await found.install("svc", version)
        described = descriptor("2.0.0")
        described["platforms"][HERE]["exec"]["program"] = "bin/run"
        data = packed({"service.json": json.dumps(described), "app/main.py": "x", "bin/run": "#!/bin/sh\n"})
        publisher.publish("2.0.0", data)
        await found.install("svc", "2.0.0")
        tree = tmp_path / f"services/svc/versions/2.0.0/{HERE}"
        assert (tree / "bin/run").stat().st_mode & 0o777 == 0o755
        assert (tree / "app/main.py").stat().st_mode & 0o777 == 0o644


async def test_later_descriptors_are_understood(publisher: Publisher, tmp_path: Path) -> None:
    described = {"id": "svc", "name": "S", "version": "1.0.0", "type": "asr", "port": 6007}
    described |= {"exec": {"command": "python", "args": ["${cwd}/app/main.py"], "cwd": "."}}
    async with packages(publisher, tmp_path) as found:
        publisher.publish("1.0.0", packed({"service.json": json.dumps(described), "app/main.py": "x"}))
        await found.install("svc")
        words, _, _ = await trio.to_thread.run_sync(found.command, "svc")
        assert words[1].endswith("app/main.py")


async def test_too_little_disk_is_told_with_advice(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with packages(publisher, tmp_path) as found:
        for version in ("1.0.0", "1.1.0"):
            publisher.publish(version)
            await found.install("svc")
        publisher.publish("1.2.0")
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100}))
        with pytest.raises(InsufficientSpaceError, match=r"uninstalling 1\.0\.0 makes room"):
            await found.install("svc")
        assert not any("1.2.0" in one.path and "storage" in one.path for one in publisher.hub.asked)


async def test_two_installations_at_once_are_one_download(publisher: Publisher, tmp_path: Path) -> None:
    publisher.publish("1.0.0")
    async with packages(publisher, tmp_path) as one, packages(publisher, tmp_path) as two:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.install, "svc")
            nursery.start_soon(two.install, "svc")
        assert sum("storage" in asked.path for asked in publisher.hub.asked) == 1
        assert one.current("svc") == two.current("svc") is not None


async def test_the_commands(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publisher.publish("1.0.0")
    keys = json.dumps([{"key_id": KEY.key_id, "public_key": KEY.public_key, "algorithm": "ed25519"}])
    monkeypatch.setenv("SERVICE_PACKAGE_PUBLIC_KEYS", keys)
    common = ["--service", "svc", "--hub", publisher.hub.url, "--data-dir", str(tmp_path)]
    try:
        assert await trio.to_thread.run_sync(main, ["models", "pull", *common]) == 0
        publisher.publish("1.1.0", signature=None)
        assert await trio.to_thread.run_sync(main, ["models", "pull", *common]) == 1
        assert await trio.to_thread.run_sync(main, ["models", "pull", "--allow-unsigned", *common]) == 0
        assert await trio.to_thread.run_sync(main, ["models", "rollback", *common]) == 0
        assert await trio.to_thread.run_sync(main, ["models", "remove", *common]) == 0
    finally:
        log.reset()
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "svc 1.0.0 is in use.",
        "svc 1.1.0 is in use.",
        "svc is at 1.0.0 again.",
        "svc is removed.",
    ]
    assert "is not signed" in told.err


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300), at=st.integers(0, 400), change=st.binary(max_size=8))
def test_any_bytes_are_unpacked_inside_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int, change: bytes
) -> None:
    root = tmp_path_factory.mktemp("zip")
    into = root / "into"
    into.mkdir()
    whole = packed({"a/b": data, "c": b"c"})
    (root / "zip").write_bytes(whole[:at] + change + whole[at + len(change) :])
    with suppress(PackageError):
        unzip(root / "zip", into)
    assert sorted(one.name for one in root.iterdir()) == ["into", "zip"]


async def test_every_failure_is_in_the_log(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        found = [record.msg["event"] for record in caplog.records if isinstance(record.msg, dict)]
        caplog.clear()
        return found

    caplog.set_level("WARNING", "linguad")
    async with packages(publisher, tmp_path) as found:
        good = publisher.publish("1.0.0")
        await found.install("svc")
        assert told() == []
        publisher.publish("2.0.0", signature=good["signature"])
        with pytest.raises(SignatureError):
            await found.install("svc")
        assert told() == ["model_signature_refused", "package_install_failed"]
        publisher.publish("3.0.0")
        with monkeypatch.context() as broken:
            broken.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
            with pytest.raises(DiskError):
                await found.install("svc")
        assert told() == ["package_install_failed"]
        await found.install("svc")
        await found.rollback("svc")
        assert told() == ["package_rolled_back"]
