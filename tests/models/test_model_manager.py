"""The model manager on a real disk and a real socket, from the first byte to the removal."""

from __future__ import annotations

import base64
import errno
import json
import os
import random
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from played_hub import Fault, PlayedHub, played_hub, sha256
from trio.testing import wait_all_tasks_blocked

from linguad.models import installing, transfer
from linguad.models.answer import Ladder
from linguad.models.catalog import canonical
from linguad.models.errors import (
    Cancelled,
    ChecksumError,
    ChecksumMissingError,
    FileMissingError,
    HubProtocolError,
    InsufficientSpaceError,
    InUseError,
    InvalidIdentifierError,
    ModelError,
    ModelNotAvailableError,
    ModelNotFoundError,
    NetworkError,
    NoPreviousVersionError,
    Reason,
    RegistryError,
    SignatureError,
    VersionNotFoundError,
)
from linguad.models.inventory import capability_state, inventory
from linguad.models.layout import Layout
from linguad.models.locks import Locks
from linguad.models.manager import ModelManager, Settings
from linguad.models.names import Key
from linguad.models.progress import Changed, Event, Happened, Problem, Progress, State
from linguad.models.registry import Registry, Status
from linguad.models.signing import Trust, TrustedKey
from linguad.models.sync import Policy, sync, update

RANDOM = random.Random(2)
FILES = {
    "model.bin": RANDOM.randbytes(400_000),
    "sub/dir/words.txt": b"one two three\n" * 999,
    "ünïcode & space.txt": b"x",
    "empty": b"",
}
NEWER = FILES | {"model.bin": RANDOM.randbytes(400_000)}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without pauses, and never for ever."""
    monkeypatch.setattr(Ladder, "DELAYS", (0.0, 0.0, 0.0))


@pytest.fixture
async def hub() -> AsyncIterator[PlayedHub]:
    async with played_hub({"m": {"1.0.0": FILES}}) as hub:
        yield hub


@asynccontextmanager
async def managed(hub: PlayedHub | str, data: Path, **more: object) -> AsyncIterator[ModelManager]:
    url = hub if isinstance(hub, str) else hub.url
    settings = Settings(data=data, hub=url, **more)  # type: ignore[arg-type]
    with trio.fail_after(120):
        async with ModelManager.open(settings) as manager:
            yield manager


def tree(path: Path) -> dict[str, bytes]:
    found = {str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()}
    listed = json.loads(found.pop("checksum.sha256"))
    assert listed == {name: sha256(data) for name, data in found.items()}
    return found


def left_over(data: Path) -> list[str]:
    layout = Layout(data)
    return [
        one.name for one in (*layout.temp.iterdir(), *layout.staging.iterdir(), *layout.tasks.glob("*.lock"))
    ]


class TestDownload:
    @pytest.mark.parametrize("old", [False, True])
    async def test_a_model_is_installed_whole(self, tmp_path: Path, old: bool) -> None:
        async with played_hub({"m": {"1.0.0": FILES}}, old=old) as hub, managed(hub, tmp_path) as manager:
            path = await manager.download("m")
            assert path == tmp_path / "models/m/1.0.0"
            assert tree(path) == FILES
            assert left_over(tmp_path) == []
            record = json.loads((tmp_path / "models/registry.json").read_text())["m"]["1.0.0"]
            assert record["status"] == "ready"
            assert record["size_bytes"] == sum(map(len, FILES.values()))
            assert record["checksum_sha256"] == hub.entry("m")["versions"][0]["checksum_sha256"]
            assert {file["path"] for file in record["files"]} == set(FILES)
            assert manager.path("m") == path
            assert (path / "model.bin").stat().st_mode & 0o777 == 0o644

    async def test_what_is_installed_is_not_asked_for(self, hub: PlayedHub, tmp_path: Path) -> None:
        async with managed(hub, tmp_path) as manager:
            await manager.download("m")
        hub.asked.clear()
        async with managed(hub, tmp_path) as manager:
            await manager.download("m", "1.0.0")
            await manager.ensure("m")
        assert hub.asked == []

    async def test_repeated_clicks_are_one_task(self, hub: PlayedHub, tmp_path: Path) -> None:
        async with managed(hub, tmp_path) as manager, trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(manager.download, "m", "1.0.0")
                nursery.start_soon(manager.ensure, "m")
        assert sorted(hub.files_asked()) == sorted(set(FILES) - {"empty"})

    async def test_different_models_do_not_wait_for_each_other(self, tmp_path: Path) -> None:
        models = {f"m{n}": {"1": FILES} for n in range(4)}
        async with played_hub(models) as hub, managed(hub, tmp_path) as manager:
            hub.held = trio.Event()
            async with trio.open_nursery() as nursery:
                for name in models:
                    nursery.start_soon(manager.download, name)
                while len(hub.files_asked()) < 6:  # noqa: ASYNC110 - requests come over sockets
                    await trio.sleep(0.01)
                # Six in all, from at least two models.
                await wait_all_tasks_blocked(0.05)
                assert len(hub.files_asked()) == 6
                assert set(capability_state(manager).values()) == {"downloading"}
                hub.held.set()
            assert {tree(manager.path(name))["model.bin"] for name in models} == {FILES["model.bin"]}

    async def test_three_files_at_a_time(self, tmp_path: Path) -> None:
        files = {f"f{n}": bytes([n]) * 100 for n in range(9)}
        async with played_hub({"m": {"1": files}}) as hub, managed(hub, tmp_path) as manager:
            hub.held = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(manager.download, "m")
                while len(hub.files_asked()) < 3:  # noqa: ASYNC110 - requests come over sockets
                    await trio.sleep(0.01)
                await wait_all_tasks_blocked(0.05)
                assert len(hub.files_asked()) == 3
                hub.held.set()

    async def test_a_failed_file_does_not_cost_the_finished_ones(self, tmp_path: Path) -> None:
        files = {f"f{n}": RANDOM.randbytes(1000) for n in range(6)}
        async with played_hub({"m": {"1": files}}) as hub, managed(hub, tmp_path) as manager:
            hub.missing.add("f5")
            with pytest.raises(FileMissingError):
                await manager.download("m")
            hub.missing.clear()
            missing = await self._incomplete(hub, manager.layout, files)
            await manager.download("m")
            assert set(hub.files_asked()) == missing
            assert tree(manager.path("m")) == files

    async def test_complete_parts_and_no_registry_need_no_request(self, tmp_path: Path) -> None:
        files = {f"f{n}": RANDOM.randbytes(1000) for n in range(6)}
        async with played_hub({"m": {"1": files}}) as hub:
            hub.missing.add("f5")
            async with managed(hub, tmp_path) as manager:
                with pytest.raises(FileMissingError):
                    await manager.download("m")
            (tmp_path / "models/registry.json").unlink(missing_ok=True)
            hub.missing.clear()
            missing = await self._incomplete(hub, Layout(tmp_path), files)
            async with managed(hub, tmp_path) as manager:
                await manager.download("m")
                assert tree(manager.path("m")) == files
            assert set(hub.files_asked()) == missing

    async def _incomplete(self, hub: PlayedHub, layout: Layout, files: dict[str, bytes]) -> set[str]:
        """Files without a complete part; requests to the hub count from here."""
        # A request that was cut off while it was under way is read before.
        await wait_all_tasks_blocked(0.05)
        hub.asked.clear()
        parts = {name: layout.part("m_1", name) for name in files}
        missing = {name for name, part in parts.items() if not part.exists() or part.stat().st_size < 1000}
        # The last of six files, which fails, begins when at most two others are under way.
        assert len(missing) <= 3
        return missing

    async def test_a_deleted_part_is_fetched_again(self, hub: PlayedHub, tmp_path: Path) -> None:
        async with managed(hub, tmp_path) as manager:
            hub.faults.extend([Fault("none")] * 2 + [Fault("missing")])
            with pytest.raises(FileMissingError):
                await manager.download("m")
            for part in (tmp_path / "models/temp").glob("*.part"):
                part.unlink()
            await manager.download("m")
            assert tree(manager.path("m")) == FILES

    async def test_a_version_is_taken_from_another_as_far_as_it_is_the_same(
        self, hub: PlayedHub, tmp_path: Path
    ) -> None:
        async with managed(hub, tmp_path) as manager:
            await manager.download("m")
            hub.models["m"]["1.1.0"] = NEWER
            hub.asked.clear()
            await manager.download("m")
            assert hub.files_asked() == ["model.bin"]
            assert tree(tmp_path / "models/m/1.1.0") == NEWER
            assert tree(tmp_path / "models/m/1.0.0") == FILES

    async def test_cancelling_keeps_the_parts_and_frees_the_lock(
        self, hub: PlayedHub, tmp_path: Path
    ) -> None:
        async with managed(hub, tmp_path) as manager:
            hub.faults.extend([Fault("stall", 50_000)] * 3)
            async with trio.open_nursery() as nursery:

                async def download() -> None:
                    with pytest.raises(Cancelled):
                        await manager.download("m", "1.0.0")

                nursery.start_soon(download)
                while len(hub.files_asked()) < 3:  # noqa: ASYNC110 - requests come over sockets
                    await trio.sleep(0.01)
                await wait_all_tasks_blocked(0.05)
                assert manager.status(Key("m", "1.0.0")) == "downloading"
                manager.cancel("m", "1.0.0")
            assert Locks(manager.layout.tasks).owners() == []
            hub.faults.clear()
            await manager.download("m")
            assert tree(manager.path("m")) == FILES

    async def test_leaving_the_manager_stops_downloads(self, hub: PlayedHub, tmp_path: Path) -> None:
        hub.held = trio.Event()

        async def download(manager: ModelManager) -> None:
            with pytest.raises(Cancelled):
                await manager.download("m", "1.0.0")

        # The manager ends first, while somebody still waits for it.
        async with trio.open_nursery() as nursery:  # noqa: SIM117
            async with managed(hub, tmp_path) as manager:
                nursery.start_soon(download, manager)
                while not hub.files_asked():  # noqa: ASYNC110 - requests come over sockets
                    await trio.sleep(0.01)
        assert Locks(Layout(tmp_path).tasks).owners() == []

    async def test_a_full_disk_is_told_before_the_first_byte(
        self, hub: PlayedHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Layout, "free", lambda _: 1000)
        async with managed(hub, tmp_path) as manager:
            with pytest.raises(InsufficientSpaceError) as told:
                await manager.download("m")
            assert told.value.free == 1000
            assert hub.files_asked() == []

    async def test_a_disk_that_becomes_full_leaves_parts_and_a_good_registry(
        self, hub: PlayedHub, tmp_path: Path
    ) -> None:
        # A limit on file sizes refuses writes in the middle, as a full disk does.
        script = (
            "import resource, signal, sys, trio\n"
            "from pathlib import Path\n"
            "from linguad.models.manager import ModelManager, Settings\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
            "async def main():\n"
            "    settings = Settings(data=Path(sys.argv[1]), hub=sys.argv[2])\n"
            "    async with ModelManager.open(settings) as manager:\n"
            "        try:\n"
            "            await manager.download('m')\n"
            "        except Exception as error:\n"
            "            print(type(error).__name__)\n"
            "trio.run(main)\n"
        )
        done = await trio.run_process(
            [sys.executable, "-c", script, str(tmp_path), hub.url], capture_stdout=True
        )
        assert b"DiskError" in done.stdout
        async with managed(hub, tmp_path) as manager:
            assert manager.installed() == {}
            assert any(one.stat().st_size for one in manager.layout.temp.glob("*model.bin.part"))
            await manager.download("m")
            assert tree(manager.path("m")) == FILES

    async def test_withdrawn_versions_are_taken_only_by_force(self, hub: PlayedHub, tmp_path: Path) -> None:
        hub.status["m", "1.0.0"] = "yanked"
        async with managed(hub, tmp_path) as manager:
            with pytest.raises(VersionNotFoundError, match="withdrawn"):
                await manager.download("m", "1.0.0")
            await manager.download("m", "1.0.0", force=True)

    async def test_force_mends_a_damaged_version_with_its_good_files(
        self, hub: PlayedHub, tmp_path: Path
    ) -> None:
        async with managed(hub, tmp_path) as manager:
            path = await manager.download("m")
            (path / "model.bin").write_bytes(b"\0" * 400_000)
            assert await manager.keeper.verify() == {Key("m", "1.0.0"): "model.bin"}
            with pytest.raises(ModelNotAvailableError) as told:
                manager.path("m")
            assert told.value.reason is Reason.ERROR
            hub.asked.clear()
            await manager.ensure("m")
            assert hub.files_asked() == ["model.bin"]
            assert tree(manager.path("m")) == FILES
            assert await manager.keeper.verify() == {Key("m", "1.0.0"): None}


class TestRefusals:
    async def test_what_the_hub_does_not_have(self, hub: PlayedHub, tmp_path: Path) -> None:
        async with managed(hub, tmp_path) as manager:
            with pytest.raises(ModelNotFoundError):
                await manager.download("other")
            with pytest.raises(VersionNotFoundError):
                await manager.download("m", "9.9.9")

    async def test_a_hub_that_is_away(self, tmp_path: Path) -> None:
        async with managed("http://127.0.0.1:1", tmp_path) as manager:
            with pytest.raises(NetworkError, match="cannot be asked"):
                await manager.download("m")

    async def test_an_old_hub_without_checksums(self, tmp_path: Path) -> None:
        async with played_hub({"m": {"1": FILES}}, old=True) as hub:
            hub.models["n"] = {"1": {"a": b"1"}}
            entry = hub.entry("n")
            entry["id"] = "bare"
            hub.extra["/api/models/bare"] = 200, json.dumps(entry).encode()
            async with managed(hub, tmp_path) as manager:
                with pytest.raises(ChecksumMissingError):
                    await manager.download("bare")

    async def test_damage_twice(self, hub: PlayedHub, tmp_path: Path) -> None:
        hub.models = {"m": {"1": {"a": b"abc"}}}
        hub.faults.extend([Fault("damaged")] * 2)
        async with managed(hub, tmp_path) as manager:
            with manager.events.listen(Problem, Progress) as events:
                with pytest.raises(ChecksumError):
                    await manager.download("m")
                told = await drain(events)
            assert [event.state for event in told if isinstance(event, Progress)][-1] is State.FAILED
            (problem,) = [event for event in told if isinstance(event, Problem)]
            assert (problem.stage, problem.code) == ("checksum", "MODEL_VERIFY_FAILED")
            assert left_over(tmp_path) == []

    @pytest.mark.parametrize(
        "path",
        ["../x", "/etc/x", "a/../../x", "a\\b", "a\0b", "a//b", "con", "a/NUL.txt", "x" * 300, "", "."],
    )
    async def test_paths_that_would_leave_the_model(self, hub: PlayedHub, tmp_path: Path, path: str) -> None:
        manifest = hub.manifest("m", "1.0.0")
        del manifest["manifest_sha256"]
        manifest["files"][0]["path"] = path
        manifest |= {"manifest_sha256": sha256(canonical(manifest))}
        hub.extra["/api/models/m"] = 200, json.dumps(hub.entry("m") | {"versions": []}).encode()
        hub.extra["/api/models/m/versions/1.0.0/manifest"] = 200, json.dumps(manifest).encode()
        async with managed(hub, tmp_path / "data") as manager:
            with pytest.raises(InvalidIdentifierError):
                await manager.download("m", "1.0.0")
        assert os.listdir(tmp_path) == ["data"]

    @pytest.mark.parametrize(
        "name", ["..", ".", "a/b", "temp", "in-use", "registry.json", "", "-a", "a" * 129]
    )
    async def test_ids_that_are_no_ids(self, hub: PlayedHub, tmp_path: Path, name: str) -> None:
        async with managed(hub, tmp_path) as manager:
            for call in (manager.download, manager.keeper.uninstall, manager.ensure, manager.keeper.rollback):
                with pytest.raises(InvalidIdentifierError):
                    await call(name)

    async def test_answers_that_nest_without_end(self, hub: PlayedHub, tmp_path: Path) -> None:
        deep = b'{"id":"n","surprise":' + b"[" * 100_000
        hub.extra["/api/models/n"] = 200, deep
        hub.extra["/api/models/m/versions/1.0.0/manifest"] = 200, deep
        async with managed(hub, tmp_path) as manager:
            for model_id in ("m", "n"):
                with pytest.raises(HubProtocolError):
                    await manager.download(model_id)

    async def test_a_bug_ends_its_download_and_nothing_else(
        self, hub: PlayedHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError

        async with managed(hub, tmp_path) as manager:
            with monkeypatch.context() as broke:
                broke.setattr("linguad.models.installing.check_space", broken)
                with pytest.raises(ModelError, match="a bug ended the download"):
                    await manager.download("m")
            await manager.download("m")
            assert left_over(tmp_path) == []

    async def test_a_manifest_that_is_not_whole(self, hub: PlayedHub, tmp_path: Path) -> None:
        manifest = hub.manifest("m", "1.0.0") | {"total_size": 1}
        hub.extra["/api/models/m/versions/1.0.0/manifest"] = 200, json.dumps(manifest).encode()
        async with managed(hub, tmp_path) as manager:
            with pytest.raises(HubProtocolError, match="digest"):
                await manager.download("m")


class TestSignatures:
    async def test_only_what_a_trusted_key_signed_is_installed(self, hub: PlayedHub, tmp_path: Path) -> None:
        secret = Ed25519PrivateKey.generate()
        public = base64.b64encode(secret.public_key().public_bytes_raw()).decode()
        trust = Trust([TrustedKey("k1", public)])
        payload = {
            "manifest_sha256": hub.manifest("m", "1.0.0")["manifest_sha256"],
            "model_id": "m",
            "version": "1.0.0",
        }
        good = base64.b64encode(secret.sign(canonical(payload))).decode()
        async with managed(hub, tmp_path, trust=trust, require_signature=True) as manager:
            for signature, why in (
                (None, "not signed"),
                ({"alg": "ed25519", "key_id": "k2", "value_b64": good}, "not trusted"),
                ({"alg": "rsa", "key_id": "k1", "value_b64": good}, "only ed25519"),
                ({"alg": "ed25519", "key_id": "k1", "value_b64": good[:-8]}, "bytes"),
                (
                    {"alg": "ed25519", "key_id": "k1", "value_b64": base64.b64encode(bytes(64)).decode()},
                    "wrong",
                ),
            ):
                hub.signatures["m", "1.0.0"] = signature  # type: ignore[assignment]
                with pytest.raises(SignatureError, match=why):
                    await manager.download("m")
            assert hub.files_asked() == []
            hub.signatures["m", "1.0.0"] = {"alg": "ed25519", "key_id": "k1", "value_b64": good}
            await manager.download("m")


async def drain(events: AsyncIterator[Event]) -> list[Event]:
    """The events that wait; they are had without a pause, so that the deadline only ends what would wait."""
    found = []
    with trio.move_on_after(0):
        async for event in events:
            found.append(event)  # noqa: PERF401 - it ends by the deadline
    return found


class TestEvents:
    async def test_progress_goes_up_and_ends_once(self, hub: PlayedHub, tmp_path: Path) -> None:
        async with managed(hub, tmp_path) as manager:
            with manager.events.listen() as events:
                await manager.download("m")
                told = await drain(events)
        progress = [event for event in told if isinstance(event, Progress)]
        states = list(dict.fromkeys(event.state for event in progress))
        assert states == ["checking", "downloading", "verifying", "installing", "ready"]
        percents = [event.percent for event in progress]
        assert percents == sorted(percents)
        assert (percents[-1], progress[-1].downloaded_bytes) == (100, sum(map(len, FILES.values())))
        assert [event.status for event in told if isinstance(event, Changed)] == ["downloading", "ready"]

    async def test_a_listener_that_sleeps_misses_progress_but_not_the_end(
        self, hub: PlayedHub, tmp_path: Path
    ) -> None:
        async with managed(hub, tmp_path) as manager:
            with manager.events.listen(Progress) as events:
                for _ in range(1000):
                    manager.events.tell(Progress(model_id="x", version="1", state=State.DOWNLOADING))
                await manager.download("m")
                assert (await drain(events))[-1].state is State.READY  # type: ignore[attr-defined]


class TestVersions:
    async def test_changing_over_and_back_survives_a_restart(self, hub: PlayedHub, tmp_path: Path) -> None:
        hub.models["m"]["1.10.0"] = NEWER
        async with managed(hub, tmp_path) as manager:
            await manager.download("m", "1.0.0")
            with pytest.raises(NoPreviousVersionError):
                await manager.keeper.rollback("m")
            await manager.keeper.activate("m", "1.0.0")
            await manager.download("m", "1.10.0")
            assert manager.path("m").name == "1.0.0"
            with manager.events.listen(Happened) as events:
                await manager.keeper.activate("m", "1.10.0")
                assert [event.what for event in await drain(events)] == ["activated"]  # type: ignore[attr-defined]
        async with managed(hub, tmp_path) as manager:
            assert manager.path("m").name == "1.10.0"
            assert await manager.keeper.rollback("m") == "1.0.0"
        async with managed(hub, tmp_path) as manager:
            assert manager.path("m").name == "1.0.0"
            with pytest.raises(ModelNotAvailableError):
                await manager.keeper.activate("m", "3.0.0")

    async def test_an_update_that_does_not_work_goes_back(self, hub: PlayedHub, tmp_path: Path) -> None:
        async def works(path: Path) -> bool:
            return path.name == "1.0.0"

        async with managed(hub, tmp_path) as manager:
            assert await update(manager, "m", works) == Key("m", "1.0.0")
            hub.models["m"]["2.0.0"] = NEWER
            assert await update(manager, "m", works) == Key("m", "1.0.0")
            assert manager.active()["m"].previous == "2.0.0"

    async def test_nothing_in_use_is_removed(self, hub: PlayedHub, tmp_path: Path) -> None:
        async with managed(hub, tmp_path) as manager, managed(hub, tmp_path) as other:
            await manager.download("m")
            async with manager.lease("m") as path:
                assert tree(path) == FILES
                # A lease holds for other processes too; this is another manager of the same directory.
                with pytest.raises(InUseError, match=f"process {os.getpid()}"):
                    await other.keeper.uninstall("m")
                assert tree(path) == FILES
            assert await other.keeper.uninstall("m") is True
            assert not path.exists()
            assert manager.installed() == {}
            with pytest.raises(ModelNotAvailableError, match=r"Model m@\S+ unavailable: not_installed"):
                manager.path("m")
            assert await other.keeper.uninstall("m", "1.0.0") is True

    async def test_removing_a_model_takes_what_was_only_begun(self, hub: PlayedHub, tmp_path: Path) -> None:
        hub.faults.extend([Fault("none")] * 2 + [Fault("missing")])
        async with managed(hub, tmp_path) as manager:
            with pytest.raises(FileMissingError):
                await manager.download("m", "1.0.0")
            assert left_over(tmp_path) != []
            await manager.keeper.uninstall("other")
            assert left_over(tmp_path) != []
            await manager.keeper.uninstall("m")
            assert left_over(tmp_path) == []

    async def test_old_versions_are_pruned(self, hub: PlayedHub, tmp_path: Path) -> None:
        for version in ("1.1.0", "1.2.0", "1.9.0", "1.10.0"):
            hub.models["m"][version] = {"a": version.encode()}
        async with managed(hub, tmp_path) as manager:
            for version in hub.models["m"]:
                await manager.download("m", version)
            await manager.keeper.activate("m", "1.0.0")
            await manager.keeper.pin("m", "1.1.0")
            assert await manager.keeper.prune(keep=2) == [Key("m", "1.2.0")]
            assert sorted(manager.installed()["m"]) == ["1.0.0", "1.1.0", "1.10.0", "1.9.0"]

    async def test_parts_of_a_version_whose_name_goes_on_stay(self, hub: PlayedHub, tmp_path: Path) -> None:
        """The parts of m@1.0.0 begin with the name of those of m@1."""
        hub.models["m"]["1"] = {"a": b"1"}
        hub.faults.extend([Fault("stall", 1000)] * 3)
        async with managed(hub, tmp_path) as manager, trio.open_nursery() as nursery:
            nursery.start_soon(manager.download, "m", "1.0.0")
            part = manager.layout.part("m_1.0.0", "model.bin")
            while hub.faults or not part.with_name(part.name + ".json").exists():  # noqa: ASYNC110
                await trio.sleep(0.01)
            await manager.download("m", "1")
            await manager.keeper.uninstall("m", "1")
            assert part.exists()
            nursery.cancel_scope.cancel()
        assert sorted(left_over(tmp_path))[0].startswith("m_1.0.0.")

    async def test_a_version_stays_usable_while_it_is_fetched_anew(
        self, hub: PlayedHub, tmp_path: Path
    ) -> None:
        async with managed(hub, tmp_path) as manager:
            path = await manager.download("m")
            (path / "model.bin").unlink()
            hub.held = trio.Event()
            async with trio.open_nursery() as nursery:

                async def again() -> None:
                    await manager.download("m", "1.0.0", force=True)

                nursery.start_soon(again)
                while hub.files_asked().count("model.bin") < 2:  # noqa: ASYNC110 - requests come over sockets
                    await trio.sleep(0.01)
                assert manager.path("m") == path
                hub.held.set()
            assert tree(path) == FILES

    async def test_sync_brings_what_the_policy_asks_for(self, hub: PlayedHub, tmp_path: Path) -> None:
        async with managed(hub, tmp_path) as manager:
            first = await sync(manager, Policy(required=["m", "gone"]))
            assert (first.installed, first.updated) == (["m@1.0.0"], [])
            assert "no model gone" in first.failed["gone"]
            assert first.bytes == sum(map(len, FILES.values()))
            for version in ("1.1.0", "1.2.0", "1.3.0"):
                hub.models["m"][version] = {"a": version.encode()}
                again = await sync(manager, Policy(required=["m"], keep=1))
                assert again.updated == [f"m@{version}"]
            assert again.removed == ["m@1.1.0"]
            assert manager.path("m").name == "1.3.0"
            hub.models["m"]["1.4.0"] = FILES
            poor = await sync(manager, Policy(required=["m"], max_bytes=1000))
            assert "max_bytes" in poor.failed["m"]

    async def test_sync_follows_another_channel_although_the_hub_has_no_news(
        self, hub: PlayedHub, tmp_path: Path
    ) -> None:
        hub.models["m"]["2.0.0"] = NEWER
        hub.defaults["m"] = "1.0.0"
        async with managed(hub, tmp_path) as manager:
            for since, version in (
                ("", "1.0.0"),
                ("?since=7", "1.0.0"),
                ("", "2.0.0"),
                ("?since=7", "2.0.0"),
            ):
                news = {"cursor": "7", "full": not since, "models": [], "removed": []}
                hub.extra["/api/sync/manifest"] = 200, json.dumps(news).encode()
                hub.asked.clear()
                await sync(manager, Policy(required=["m"], channels={"m": version}))
                assert hub.asked[0].path == f"/api/sync/manifest{since}"
                assert manager.path("m").name == version

    async def test_sync_asks_a_new_hub_only_for_what_changed(self, hub: PlayedHub, tmp_path: Path) -> None:
        news = {
            "cursor": "7",
            "full": True,
            "models": [{"id": "m", "default_version": "1.0.0"}],
            "removed": [],
        }
        hub.extra["/api/sync/manifest"] = 200, json.dumps(news).encode()
        async with managed(hub, tmp_path) as manager:
            await sync(manager, Policy(required=["m"]))
            hub.asked.clear()
            news |= {"full": False, "models": [], "cursor": "8"}
            hub.extra["/api/sync/manifest"] = 200, json.dumps(news).encode()
            await sync(manager, Policy(required=["m"]))
        assert [asked.path for asked in hub.asked] == ["/api/sync/manifest?since=7"]


class TestRecovery:
    async def test_a_damaged_registry_is_rebuilt_from_the_trees(self, hub: PlayedHub, tmp_path: Path) -> None:
        async with managed(hub, tmp_path) as manager:
            await manager.download("m")
        hub.asked.clear()
        models = tmp_path / "models"
        (models / "registry.json.bak").unlink()
        (models / "registry.json").write_text("{ no json")
        shutil.copytree(models / "m/1.0.0", models / "m/2.0.0")
        (models / "m/2.0.0/model.bin").write_bytes(b"damage")
        async with managed(hub, tmp_path) as manager:
            assert await manager.ensure("m", "1.0.0") == models / "m/1.0.0"
            while manager.installed()["m"]["2.0.0"].status is Status.VERIFYING:  # noqa: ASYNC110
                await trio.sleep(0.01)
            assert manager.installed()["m"]["2.0.0"].status is Status.ERROR
        assert hub.asked == []
        assert len(list(models.glob("registry.json.corrupt-*"))) == 1

    async def test_a_registry_that_cannot_be_read_for_a_moment_is_not_put_aside(
        self, hub: PlayedHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> bytes:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        async with managed(hub, tmp_path) as manager:
            await manager.download("m")
            os.utime(tmp_path / "models/registry.json", (1, 1))
            with monkeypatch.context() as busy:
                busy.setattr(Path, "read_bytes", refuse)
                assert manager.path("m").name == "1.0.0"
                with pytest.raises(RegistryError, match="Too many open files"):
                    await manager.keeper.activate("m", "1.0.0")
            await manager.keeper.activate("m", "1.0.0")
        assert list((tmp_path / "models").glob("*.corrupt-*")) == []

    async def test_the_copy_is_used_where_the_registry_is_gone(self, hub: PlayedHub, tmp_path: Path) -> None:
        async with managed(hub, tmp_path) as manager:
            await manager.download("m")
            await manager.keeper.activate("m", "1.0.0")
            await manager.keeper.pin("m", "1.0.0")
        (tmp_path / "models/registry.json").unlink()
        registry = Registry(Layout(tmp_path))
        registry.load()
        record = registry.record(Key("m", "1.0.0"))
        assert record is not None
        assert record.status is Status.READY

    async def test_states_that_an_old_client_left_are_settled(self, hub: PlayedHub, tmp_path: Path) -> None:
        async with managed(hub, tmp_path) as manager:
            await manager.download("m")
        registry = tmp_path / "models/registry.json"
        kept = json.loads(registry.read_text())
        kept["m"]["1.0.0"]["status"] = "installing"
        kept["gone"] = {
            "1": {"status": "downloading", "installed_at": "", "size_bytes": 0, "checksum_sha256": ""}
        }
        kept["../evil"] = {"1": kept["gone"]["1"]}
        registry.write_text(json.dumps(kept))
        async with managed(hub, tmp_path) as manager:
            await manager.ensure("m")
            assert list(manager.installed()) == ["m"]

    async def test_what_is_being_verified_after_a_crash_can_be_removed(
        self, hub: PlayedHub, tmp_path: Path
    ) -> None:
        async with managed(hub, tmp_path) as manager:
            path = await manager.download("m")
        for file in (tmp_path / "models").glob("registry.json*"):
            file.unlink()
        async with managed(hub, tmp_path) as manager:
            assert manager.status(Key("m", "1.0.0")) == "downloading"
            await manager.keeper.uninstall("m")
            assert manager.installed() == {}
        assert not path.exists()

    async def test_an_interrupted_exchange_gives_the_old_tree_back(
        self, hub: PlayedHub, tmp_path: Path
    ) -> None:
        async with managed(hub, tmp_path) as manager:
            path = await manager.download("m")
        away = tmp_path / "models/_staging/old_abc/m/1.0.0"
        away.parent.mkdir(parents=True)
        path.rename(away)
        (tmp_path / "models/_staging/new_def/m/1.0.0").mkdir(parents=True)
        async with managed(hub, tmp_path) as manager:
            assert tree(manager.path("m")) == FILES
        assert left_over(tmp_path) == []

    async def test_a_hub_that_is_away_changes_nothing_for_what_is_here(
        self, hub: PlayedHub, tmp_path: Path
    ) -> None:
        async with managed(hub, tmp_path) as manager:
            await manager.download("m")
        async with managed("http://127.0.0.1:1", tmp_path) as manager:
            assert (await manager.ensure("m")).name == "1.0.0"
            (entry,) = inventory(manager)
            assert (
                entry.model_id,
                entry.kind,
                entry.src_lang,
                entry.tgt_lang,
                entry.version,
                entry.enabled,
            ) == (
                *("m", "asr", "en", "es", "1.0.0"),
                True,
            )
            assert capability_state(manager) == {"m": "ready"}

    async def test_usage_reaches_the_hub_of_the_next_process(self, hub: PlayedHub, tmp_path: Path) -> None:
        async with managed(hub, tmp_path) as manager:
            await manager.download("m")
        async with managed(hub, tmp_path) as manager:
            while not manager.usage.waiting:  # noqa: ASYNC110 - the file is read in a thread
                await trio.sleep(0.01)
            await manager.usage.send()
        assert [(event["type"], event["model_id"]) for event in hub.events] == [
            ("download", "m"),
            ("install", "m"),
        ]
        assert len({event["event_id"] for event in hub.events}) == 2


def test_the_constants_of_the_specification() -> None:
    assert (transfer.FILES_PER_MODEL, installing.FILES_PER_PROCESS) == (3, 6)
    assert issubclass(ModelNotAvailableError, ModelError)


async def test_use_is_counted_and_kept_while_the_hub_is_away(hub: PlayedHub, tmp_path: Path) -> None:
    one = Key("m", "1.0.0")
    async with managed("http://127.0.0.1:1", tmp_path) as manager:
        for _ in range(1234):
            manager.usage.note("request", one)
        await manager.usage.send()
        assert manager.usage.waiting == 1
    async with managed(hub, tmp_path) as manager:
        while not manager.usage.waiting:  # noqa: ASYNC110 - the file is read in a thread
            await trio.sleep(0.01)
        await manager.usage.send()
        assert manager.usage.waiting == 0
    ((kind, count),) = {(event["type"], event["count"]) for event in hub.events}
    assert (kind, count) == ("request", 1234)
