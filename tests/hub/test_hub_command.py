"""`linguad hub` against a real hub, in a thread as a person would run it."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio
from shop import Shop, open_shop, package, put

from linguad.cli import main


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path / "models") as opened:
        yield opened


async def linguad(shop: Shop, *words: str) -> int:
    """The exit code; as an operator on this machine, who needs no token."""
    words = ("hub", words[0], "--hub", f"http://127.0.0.1:{shop.port}", *words[1:])
    return await trio.to_thread.run_sync(partial(main, words))


async def test_a_directory_is_published_listed_and_taken_back(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "new", "model.bin", os.urandom(100_000))
    put(tmp_path / "new", "sub/vocab.txt", "a b")
    put(tmp_path / "new", ".git/config", "not this")
    words = ("publish", "m", "1.0.0", str(tmp_path / "new"), "--task", "nmt", "--languages", "zh,en")
    assert await linguad(shop, *words, "--channel", "stable") == 0
    assert "Published m 1.0.0: 2 files" in capsys.readouterr().out
    assert (await shop.get("/storage/models/m/1.0.0/sub/vocab.txt")).body == b"a b"
    assert await linguad(shop, *words) == 0
    put(tmp_path / "new", "model.bin", "other")
    assert await linguad(shop, *words) == 1
    assert "published with other content" in capsys.readouterr().err
    assert await linguad(shop, "list") == 0
    out = capsys.readouterr().out
    assert "published, default, stable" in out
    assert "nmt" in out
    assert await linguad(shop, "verify", "m") == 0
    assert await linguad(shop, "yank", "m", "1.0.0", "--reason", "bad", "--block") == 0
    assert await linguad(shop, "list", "--json") == 0
    out = capsys.readouterr().out
    assert json.loads(out[out.index("[") :])[0]["versions"][0]["status"] == "yanked"


async def test_a_package_is_published(shop: Shop, tmp_path: Path) -> None:
    data = package(tmp_path / "s.zip", "s", "1.0.0")
    words = ("publish", "s", "1.0.0", str(tmp_path / "s.zip"), "--platform", "windows-x64")
    assert await linguad(shop, *words) == 0
    assert (await shop.get("/storage/services/s/1.0.0/windows-x64/service.zip")).body == data
    assert (
        await linguad(shop, "publish", "s", "2.0.0", str(tmp_path / "s.zip"), "--platform", "linux-x64") == 1
    )


def test_the_index_is_written_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package(tmp_path / "services/s/1.0.0/windows-x64/service.zip", "s", "1.0.0")
    words = ["hub", "index", "--models-dir", str(tmp_path)]
    assert main([*words, "--check"]) == 1
    assert main(words) == 0
    assert main([*words, "--check"]) == 0
    index = json.loads((tmp_path / "services/services_index.json").read_text())
    assert index["s"]["variants"][0]["platform"] == "windows-x64"
    assert main(["hub", "index", "--models-dir", str(tmp_path / "none")]) == 1
    assert "--models-dir" in capsys.readouterr().err


def test_the_index_is_of_the_directory_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path / "services/s/1.0.0/windows-x64/service.zip", "s", "1.0.0")
    monkeypatch.setenv("MODELS_DIR", str(tmp_path))
    assert main(["hub", "index"]) == 0
    assert list(json.loads((tmp_path / "services/services_index.json").read_text())) == ["s"]


def test_a_hub_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hub", "list", "--hub", "http://127.0.0.1:1"]) == 1
    assert "is the hub running there?" in capsys.readouterr().err
    assert main(["hub", "list", "--hub", "nonsense"]) == 1
