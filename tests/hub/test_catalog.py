"""What is found in a models directory and told about it; only what changed is looked at again."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from patience import PATIENCE_S
from shop import OLD, checksums, package, put, sha

from linguad.errors import LinguadError
from linguad.hub.catalog import Catalog
from linguad.hub.hasher import Hasher
from linguad.hub.records import Record


@asynccontextmanager
async def opened(root: Path, **options: Any) -> AsyncIterator[Catalog]:
    """A catalogue whose files are being hashed."""
    catalog = Catalog(root, **options)
    await catalog.open()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Hasher(catalog).run)
        yield catalog
        nursery.cancel_scope.cancel()


async def until(catalog: Catalog, condition: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not condition():
            await catalog.wait_change(catalog.current.revision)


async def found(root: Path) -> dict[str, Any]:
    """What `/api/models` says, by id, before anything is hashed."""
    catalog = Catalog(root)
    await catalog.open()
    return {model["id"]: model for model in json.loads(catalog.current.models_json)}


async def test_versions_are_ordered_as_numbers_and_files_below_directories_listed(tmp_path: Path) -> None:
    put(tmp_path, "storage/faster-whisper/1.9.0/model.bin", b"old")
    put(tmp_path, "storage/faster-whisper/1.10.0/model.bin", b"newer")
    put(tmp_path, "storage/faster-whisper/1.10.0/tokenizer/vocab.txt", b"a b")
    (model,) = (await found(tmp_path)).values()
    assert model == {
        "id": "faster-whisper",
        "name": "Faster Whisper",
        "task": "asr",
        "languages": ["zh", "en"],
        "default_version": "1.10.0",
        "latest_version": "1.10.0",
        "channels": {},
        "tags": [],
        "versions": [
            {
                "version": "1.10.0",
                "size_bytes": 8,
                "files": [
                    {"path": "model.bin", "size_bytes": 5},
                    {"path": "tokenizer/vocab.txt", "size_bytes": 3},
                ],
                "checksum_sha256": "{}",
                "updated_at": "2023-11-14T22:13:20Z",
                "status": "published",
            },
            {
                "version": "1.9.0",
                "size_bytes": 3,
                "files": [{"path": "model.bin", "size_bytes": 3}],
                "checksum_sha256": "{}",
                "updated_at": "2023-11-14T22:13:20Z",
                "status": "published",
            },
        ],
    }


async def test_old_directories(tmp_path: Path) -> None:
    put(tmp_path, "nmt/marian-zh-en/model.bin", b"123")
    put(tmp_path, "nmt/marian-zh-en/tokenizer/vocab.json", b"{}")
    put(tmp_path, "tts/piper-english/2.0.0/voice.onnx", b"1")
    put(tmp_path, "tts/piper-english/10.0.0/voice.onnx", b"2")
    put(tmp_path, "vad/silero/v4/model.onnx", b"1")
    put(tmp_path, "storage/silero/1.0.0/model.onnx", b"wins")
    models = await found(tmp_path)
    marian = models["marian-zh-en"]
    assert (marian["task"], marian["languages"], marian["default_version"]) == ("nmt", ["zh"], "1.0.0")
    assert [file["path"] for file in marian["versions"][0]["files"]] == ["model.bin", "tokenizer/vocab.json"]
    piper = models["piper-english"]
    assert (piper["task"], piper["languages"], piper["default_version"]) == ("tts", ["en"], "10.0.0")
    assert models["silero"]["versions"][0]["size_bytes"] == 4


async def test_nothing_odd_breaks_the_list(tmp_path: Path) -> None:
    (tmp_path / "storage/empty").mkdir(parents=True)
    (tmp_path / "storage/hollow/1.0.0").mkdir(parents=True)
    put(tmp_path, "storage/good/1.0.0/a.bin")
    put(tmp_path, "storage/good/1.0.0/half.bin.part")
    put(tmp_path, "storage/good/1.0.0/.hidden")
    put(tmp_path, "storage/good/readme.txt")
    put(tmp_path, "storage/a b/1.0.0/a.bin")
    put(tmp_path, "storage/good/not a version/a.bin")
    put(tmp_path, "storage/good/1.0.0/c:d")
    os.mkfifo(tmp_path / "storage/good/1.0.0/pipe")
    put(tmp_path, "secret.txt", b"secret")
    (tmp_path / "storage/good/1.0.0/link.bin").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "storage/linked").symlink_to(tmp_path / "storage/good")
    put(tmp_path, "metadata.json", "{not json")
    catalog = Catalog(tmp_path)
    await catalog.open()
    listed = json.loads(catalog.current.models_json)
    assert [model["id"] for model in listed] == ["good"]
    assert [file["path"] for file in listed[0]["versions"][0]["files"]] == ["a.bin"]
    problems = dict(catalog.current.problems)
    assert problems.keys() == {
        "metadata.json",
        "storage/a b",
        "storage/good/not a version",
        "storage/good/1.0.0/c:d",
        "storage/good/1.0.0/pipe",
        "storage/good/1.0.0/link.bin",
        "storage/linked",
    }
    await catalog.rescan()
    assert dict(catalog.current.problems) == problems, "they are still told when nothing is looked at again"


async def test_words_about_models(tmp_path: Path) -> None:
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        put(tmp_path, f"storage/m/{version}/a.bin")
        put(tmp_path, f"storage/old/{version}/a.bin")
    own = {"name": "Own", "task": "NMT", "languages": ["de", "fr"], "license": "MIT", "tags": ["big"]}
    put(tmp_path, "storage/n/1.0.0/manifest.json", json.dumps(own))
    present = {
        "models": [
            {"id": "m", "name": "M!", "task": "tts", "languages": ["ja", ""], "default_version": "2.0.0"},
            {"id": 7, "versions": 5},
            {"id": "away", "versions": [{"version": "1.0.0"}]},
        ]
    }
    put(tmp_path, "metadata.json", json.dumps(present))
    catalog = Catalog(tmp_path)
    await catalog.open()
    models = {name: entry.info for name, entry in catalog.current.models.items()}
    assert (models["m"].name, models["m"].task, models["m"].languages) == ("M!", "tts", ("ja",))
    assert (models["m"].default_version, models["m"].latest_version) == ("2.0.0", "3.0.0")
    assert (models["n"].name, models["n"].task, models["n"].languages) == ("Own", "nmt", ("de", "fr"))
    assert (models["n"].license, models["n"].tags) == ("MIT", ("big",))
    assert {where for where, _ in catalog.current.problems} == {
        "metadata.json",
        "metadata.json: away 1.0.0"[:19],
    }

    flat = [
        {"model_id": "old", "model_type": "NMT", "version": "2.0.0", "src_lang": "zh", "tgt_lang": "en",
         "status": "Stable", "download_url": "http://x/a.bin"},
        {"model_id": "old", "version": "3.0.0", "src_lang": "zh", "status": "Beta"},
        {"model_id": "old", "version": "1.0.0", "status": "Deprecated"},
        {"version": "1.0.0"},
    ]  # fmt: skip
    put(tmp_path, "metadata.json", json.dumps(flat))
    await catalog.rescan()
    old = catalog.current.models["old"].info
    assert (old.task, old.languages, old.default_version) == ("nmt", ("zh", "en"), "2.0.0")
    assert old.channels == {"stable": "2.0.0", "beta": "3.0.0"}
    assert [version.status for version in old.versions] == ["published", "published", "deprecated"]
    assert catalog.current.models["m"].info.name == "M"


async def test_what_is_not_hashed_yet_is_hashed_the_newest_and_smallest_first(tmp_path: Path) -> None:
    put(tmp_path, "storage/m/1.0.0/old.bin", b"1", at=OLD)
    put(tmp_path, "storage/m/1.0.0/new-big.bin", b"12345", at=OLD + 90_000)
    put(tmp_path, "storage/m/1.0.0/new-small.bin", b"12", at=OLD + 90_001)
    catalog = Catalog(tmp_path)
    await catalog.open()
    assert [file.path for _, _, file in catalog.unhashed()] == ["new-small.bin", "new-big.bin", "old.bin"]
    (listed,) = json.loads(catalog.current.models_json)[0]["versions"]
    assert listed["checksum_sha256"] == "{}", "as the hub always said it, and an empty map to who parses it"
    assert "manifest_sha256" not in listed
    async with opened(tmp_path) as hashed:
        await until(hashed, lambda: not hashed.unhashed())
        version = hashed.current.models["m"].versions["1.0.0"]
        digests = {"old.bin": sha(b"1"), "new-big.bin": sha(b"12345"), "new-small.bin": sha(b"12")}
        assert json.loads(version.info.checksum_sha256) == digests
        assert json.loads((tmp_path / "storage/m/1.0.0/checksum.sha256").read_text()) == digests
        assert {file.path: file.sha256 for file in version.info.files} == digests
        assert version.info.manifest_sha256
        revision = hashed.current.revision
        await hashed.rescan()
        assert hashed.current.revision == revision, "its own checksum.sha256 is no news"
    again = Catalog(tmp_path)
    await again.open()
    assert not again.unhashed()
    assert again.current.models_json == hashed.current.models_json


@pytest.mark.parametrize(
    "text",
    [
        checksums({"a.bin": b"a", "d/b.bin": b"b"}),
        f"{sha(b'a')}  a.bin\n{sha(b'b').upper()} *d/b.bin\n",
        f"{sha(b'a')}  ./a.bin\r\n{sha(b'b')}  d/b.bin",
    ],
)
async def test_published_digests_are_believed(tmp_path: Path, text: str) -> None:
    put(tmp_path, "storage/m/1.0.0/a.bin", b"a")
    put(tmp_path, "storage/m/1.0.0/d/b.bin", b"b")
    put(tmp_path, "storage/m/1.0.0/checksum.sha256", text)
    (model,) = (await found(tmp_path)).values()
    said = json.loads(model["versions"][0]["checksum_sha256"])
    assert said == {"a.bin": sha(b"a"), "d/b.bin": sha(b"b")}


async def test_one_digest_for_the_only_file(tmp_path: Path) -> None:
    put(tmp_path, "storage/m/1.0.0/a.bin", b"a")
    put(tmp_path, "storage/m/1.0.0/checksum.sha256", sha(b"a"))
    (model,) = (await found(tmp_path)).values()
    assert json.loads(model["versions"][0]["checksum_sha256"]) == {"a.bin": sha(b"a")}


async def test_a_file_written_after_its_digest_is_hashed_and_if_wrong_told_corrupt(tmp_path: Path) -> None:
    put(tmp_path, "storage/m/1.0.0/a.bin", b"other", at=OLD + 1)
    put(tmp_path, "storage/m/1.0.0/checksum.sha256", checksums({"a.bin": b"a"}))
    async with opened(tmp_path) as catalog:
        await until(catalog, lambda: catalog.current.problems)
        assert catalog.current.models["m"].versions["1.0.0"].info.status == "corrupt"
        assert json.loads(catalog.current.models_json) == []
        assert catalog.current.problems[0][0] == "storage/m/1.0.0/a.bin"


async def test_verifying_finds_silent_damage(tmp_path: Path) -> None:
    path = put(tmp_path, "storage/m/1.0.0/a.bin", b"good")
    async with opened(tmp_path) as catalog:
        await until(catalog, lambda: not catalog.unhashed())
        await Hasher(catalog).verify(["m"])
        assert catalog.current.models["m"].listed
        with path.open("r+b") as file:
            file.write(b"evil")
        os.utime(path, (OLD, OLD))
        await Hasher(catalog).verify(["m"])
        assert not catalog.current.models["m"].listed
        assert catalog.current.models["m"].versions["1.0.0"].info.status == "corrupt"


async def test_only_what_changed_is_made_anew(tmp_path: Path) -> None:
    for name in ("a", "b"):
        put(tmp_path, f"storage/{name}/1.0.0/x.bin", checksums({}))
    catalog = Catalog(tmp_path)
    await catalog.open()
    before = catalog.current
    await catalog.rescan()
    assert catalog.current is before
    put(tmp_path, "storage/b/2.0.0/x.bin")
    await catalog.rescan()
    after = catalog.current
    assert after.revision > before.revision
    assert after.models["a"] is before.models["a"]
    assert after.models["b"].info.default_version == "2.0.0"
    changes = catalog.since(before.revision)
    assert changes is not None
    assert [(change.models, change.removed) for change in changes] == [({"b"}, ())]
    (tmp_path / "storage/b/1.0.0/x.bin").unlink()
    await catalog.rescan()
    changes = catalog.since(after.revision)
    assert changes is not None
    assert changes[0].removed == (("model", "b", "1.0.0", ""),)
    assert catalog.since(5) is None


async def test_a_file_that_still_grows_is_looked_at_again(tmp_path: Path) -> None:
    path = put(tmp_path, "storage/m/1.0.0/a.bin", b"1", at=None)
    catalog = Catalog(tmp_path)
    await catalog.open()
    with path.open("ab") as file:
        file.write(b"234")
    await catalog.rescan()
    assert catalog.current.models["m"].info.versions[0].size_bytes == 4


async def test_a_file_that_changes_while_it_is_hashed_waits_for_the_next_look(tmp_path: Path) -> None:
    path = put(tmp_path, "storage/m/1.0.0/a.bin", b"1", at=None)
    catalog = Catalog(tmp_path)
    await catalog.open()
    with path.open("ab") as file:
        file.write(b"234")
    await catalog.wait_unhashed()
    await Hasher(catalog).once()
    with trio.move_on_after(0.05) as limit:
        await catalog.wait_unhashed()
    assert limit.cancelled_caught, "it would be hashed over and over"
    ((where, _),) = catalog.current.problems
    assert where == "storage/m/1.0.0/a.bin"
    await catalog.rescan()
    await catalog.wait_unhashed()
    await Hasher(catalog).once()
    assert catalog.current.models["m"].versions["1.0.0"].files["a.bin"].sha256 == sha(b"1234")
    assert catalog.current.problems == ()


async def test_files_about_files_are_read_neither_through_links_nor_from_pipes(tmp_path: Path) -> None:
    put(tmp_path, "storage/m/1.0.0/a.bin")
    put(tmp_path, "secret.json", '{"name": "SECRET"}')
    (tmp_path / "storage/m/1.0.0/manifest.json").symlink_to(tmp_path / "secret.json")
    os.mkfifo(tmp_path / "storage/m/1.0.0/checksum.sha256")
    (tmp_path / "metadata.json").mkdir()
    catalog = Catalog(tmp_path)
    await catalog.open()
    assert catalog.current.models["m"].info.name == "M"
    assert {"metadata.json", "storage/m/1.0.0/manifest.json"} <= dict(catalog.current.problems).keys()


async def test_a_file_overwritten_in_place_is_found_by_a_full_scan(tmp_path: Path) -> None:
    put(tmp_path, "storage/m/1.0.0/a.bin", b"1")
    catalog = Catalog(tmp_path)
    await catalog.open()
    put(tmp_path, "storage/m/1.0.0/a.bin", b"1234", at=OLD + 1)
    await catalog.rescan()
    assert catalog.current.models["m"].info.versions[0].size_bytes == 1
    await catalog.rescan(full=True)
    assert catalog.current.models["m"].info.versions[0].size_bytes == 4


async def test_packages_and_their_index(tmp_path: Path) -> None:
    data = package(tmp_path / "services/nmt-m2m100/1.10.0/windows-x64/service.zip", "nmt-m2m100", "1.10.0")
    package(tmp_path / "services/nmt-m2m100/1.9.0/windows-x64/service.zip", "nmt-m2m100", "1.9.0")
    package(tmp_path / "services/nmt-m2m100/1.9.0/linux-x64/service.zip", "nmt-m2m100", "1.9.0")
    (tmp_path / "services/nmt-m2m100/9.0.0").mkdir()
    put(tmp_path, "services/other/1.0.0/amiga/service.zip")
    async with opened(tmp_path) as catalog:
        await until(catalog, lambda: len(catalog.current.services["nmt-m2m100"].variants) == 3)
        (service,) = json.loads(catalog.current.services_json)["services"]
        assert service["latest_version"] == "1.10.0"
        assert [(one["version"], one["platform"]) for one in service["variants"]] == [
            ("1.10.0", "windows-x64"),
            ("1.9.0", "linux-x64"),
            ("1.9.0", "windows-x64"),
        ]
        first = service["variants"][0]
        assert first["signature"] is None
        assert first["artifact"] == {
            "type": "zip",
            "url": "/storage/services/nmt-m2m100/1.10.0/windows-x64/service.zip",
            "sha256": sha(data),
            "size_bytes": len(data),
            "etag": sha(data)[:16],
        }
        text = (tmp_path / "services/services_index.json").read_text()
        index = json.loads(text)
        assert list(index) == ["nmt-m2m100"]
        assert index["nmt-m2m100"].keys() >= {
            "service_id",
            "name",
            "latest_version",
            "variants",
            "updated_at",
        }
        assert index["nmt-m2m100"]["name"] == "Nmt M2M100"
        assert text.startswith('{\n  "nmt-m2m100": {\n    "service_id"')
        assert {where for where, _ in catalog.current.problems} == {"services/other/1.0.0/amiga"}


async def test_the_index_is_never_seen_half_written(tmp_path: Path) -> None:
    catalog, stop, seen = Catalog(tmp_path), threading.Event(), set[int]()
    await catalog.open()

    def read() -> None:
        while not stop.is_set():
            seen.add(len(json.loads((tmp_path / "services/services_index.json").read_text())))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, read)
        for number in range(40):
            package(tmp_path / f"services/s{number}/1.0.0/windows-x64/service.zip", f"s{number}", "1.0.0")
            await catalog.rescan()
            await Hasher(catalog).once()
        stop.set()
    assert max(seen) <= 40
    assert len(json.loads((tmp_path / "services/services_index.json").read_text())) == 40


async def test_a_stale_index_does_not_survive(tmp_path: Path) -> None:
    put(tmp_path, "services/services_index.json", '{"gone": {}}')
    await Catalog(tmp_path).open()
    assert json.loads((tmp_path / "services/services_index.json").read_text()) == {}


async def test_decisions_are_kept_on_the_disk(tmp_path: Path) -> None:
    for version in ("1.0.0", "2.0.0"):
        put(tmp_path, f"storage/m/{version}/a.bin")

    def yank(record: Record) -> None:
        record.version("2.0.0").status = "yanked"
        record.channels["beta"] = "1.0.0"

    catalog = Catalog(tmp_path)
    await catalog.open()
    await catalog.edit("model", "m", yank)
    again = Catalog(tmp_path)
    await again.open()
    for one in (catalog, again):
        info = one.current.models["m"].info
        assert (info.default_version, info.channels) == ("1.0.0", {"beta": "1.0.0"})
        assert [version.version for version in info.versions] == ["1.0.0"]
        entry = one.current.models["m"].resolve("beta")
        assert entry is not None
        assert entry.info.version == "1.0.0"
    assert msgspec.json.decode((tmp_path / "storage/m/_hub.json").read_bytes())["channels"]


async def test_a_directory_that_cannot_be_used_is_named_with_the_cure(tmp_path: Path) -> None:
    put(tmp_path, "models")
    with pytest.raises(LinguadError, match=r"hub\.models_dir"):
        await Catalog(tmp_path / "models").open()
