"""`linguad models` as a user types it, against a played hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from patience import PATIENCE_S
from played_hub import played_hub

from linguad import log
from linguad.cli import main

FILES = {"a": b"1" * 1000, "b/c": b"2" * 1000}


class User:
    """Types commands on a machine with an empty data directory."""

    def __init__(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, data: Path
    ) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("USER_DATA", str(data))
        monkeypatch.setenv("COLUMNS", "150")

    def uses(self, hub: str) -> None:
        self._monkeypatch.setenv("MODEL_HUB_URL", hub)

    async def types(self, *words: str, code: int = 0) -> tuple[str, str]:
        with trio.fail_after(PATIENCE_S):
            # The command runs a loop of its own, beside that of the hub.
            ended = await trio.to_thread.run_sync(main, ["models", *words])
        told = self._capsys.readouterr()
        assert ended == code, told.err
        return told.out, told.err


@pytest.fixture
def user(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[User]:
    yield User(capsys, monkeypatch, tmp_path)
    log.reset()


async def test_the_life_of_a_model(user: User, tmp_path: Path) -> None:
    async with played_hub({"m": {"1.0.0": FILES}}) as hub:
        user.uses(hub.url)
        out, _ = await user.types("list")
        assert "published, default" in out
        out, _ = await user.types("pull", "m")
        assert out == f"m@1.0.0 is in {tmp_path}/models/m/1.0.0\n"
        hub.models["m"]["2.0.0"] = FILES | {"a": b"3"}
        said = json.loads((await user.types("sync", "m", "--json"))[0])
        assert said["updated"] == ["m@2.0.0"]
        assert (await user.types("sync", "m"))[0] == "All is as the hub has it.\n"
        assert (await user.types("rollback", "m"))[0] == "m is at 1.0.0 again.\n"
        rows = {row["version"]: row for row in json.loads((await user.types("list", "--json"))[0])["models"]}
        assert (rows["1.0.0"]["active"], rows["2.0.0"]["state"]) == (True, "ready")
        (tmp_path / "models/m/1.0.0/a").write_bytes(b"damage")
        out, _ = await user.types("verify", code=1)
        damaged, whole = out.splitlines()
        assert damaged == "m@1.0.0: a is damaged; linguad models pull --force m@1.0.0"
        assert whole == "m@2.0.0: all files are as they came"
        await user.types("pull", "--force", "m@1.0.0")
        assert (await user.types("verify", "m", "--json"))[0].count("null") == 2
        assert "m" in (await user.types("ranking"))[0]
        await user.types("remove", "m@2.0.0")
        assert (await user.types("remove", "m"))[0] == "m is removed.\n"
        assert not (tmp_path / "models/m").exists()
        assert {event["type"] for event in hub.events} == {"download", "install"}


async def test_what_does_not_work_is_told_with_the_cure(user: User, tmp_path: Path) -> None:
    async with played_hub({"m": {"1.0.0": FILES}}) as hub:
        user.uses(hub.url)
        _, told = await user.types("pull", "other", "m", code=1)
        assert "linguad: other: the hub at http://127.0.0.1" in told
        assert (tmp_path / "models/m/1.0.0/a").exists()
        _, told = await user.types("rollback", "m", code=1)
        assert told == "linguad: m was never changed over from another version\n"
        _, told = await user.types("pull", "../x", code=1)
        assert "is reserved or not made of" in told
        _, told = await user.types("pull", "m", "--require-signature", "--force", code=1)
        assert "signatures are required" in told
    user.uses("http://127.0.0.1:1")
    out, told = await user.types("list")
    assert "ready, in use" in out
    assert "cannot be asked" in told
    for words in (["sync", "m"], ["pull", "n"], ["ranking"]):
        _, told = await user.types(*words, code=1)
        assert "cannot be asked" in told
        assert len(told.splitlines()) == 1
    user.uses("nowhere")
    _, told = await user.types("ranking", code=1)
    assert "is not an address of a hub" in told


@pytest.mark.parametrize("words", [(), ("fetch",), ("pull",)])
def test_what_makes_no_sense_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["models", *words])
    assert ended.value.code == 2
