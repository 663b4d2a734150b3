"""`linguad tenant` and `linguad key` on the store of a daemon that runs, on both databases."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from linguad import cli, config
from linguad.store.registry import Registry
from linguad.store.start import opened

Say = Callable[..., str]


@pytest.fixture
def settings_file(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration whose daemon has started once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("LINGUA_API_KEY", raising=False)
    path = tmp_path / "linguad.toml"
    path.write_text(f"server.state_dir = '{tmp_path / 'state'}'\nstore.url = '{url}'\n")
    look(path, lambda registry: None)
    return path


@pytest.fixture
def say(settings_file: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs `linguad` with that configuration; its output, or its error if that is expected."""

    def linguad(*words: str, fails: bool = False) -> str:
        code = cli.main([*words, "--config", str(settings_file)])
        said = capsys.readouterr()
        assert code == (1 if fails else 0), said.err
        assert (said.out if fails else said.err) == ""
        return said.err if fails else said.out

    return linguad


def look(path: Path, ask: Callable[[Registry], Any]) -> Any:
    """What a daemon that starts now knows."""

    async def start() -> Any:
        async with opened(config.load(path, {}), {}) as (_, registry, _, _):
            return ask(registry)

    return trio.run(start)


def asked(say: Say, *words: str) -> Any:
    return json.loads(say(*words, "--json"))


def test_a_tenant_from_beginning_to_end(say: Say, settings_file: Path) -> None:
    made = asked(
        say,
        "tenant",
        "create",
        "Müller 中文",
        "burst=5",
        "allowed_origins=https://a.example, https://b.example",
    )
    tenant, text = made["tenant"], made["api_key"]["key"]
    assert (tenant["name"], tenant["burst"]) == ("Müller 中文", 5)
    assert tenant["allowed_origins"] == ["https://a.example", "https://b.example"]
    found = look(settings_file, lambda registry: registry.lookup(text))
    assert (found[0].id, found[1].id) == (made["api_key"]["key_id"], tenant["id"])
    listed = asked(say, "tenant", "list")["items"]
    assert [(one["id"], one["active_keys"]) for one in listed] == [("default", 1), (tenant["id"], 1)]
    changed = asked(
        say, "tenant", "set", tenant["id"], "burst=", "name=123", 'metadata={"crm": 7}', "pool_id=5"
    )
    assert changed["tenant"] == tenant | {
        "burst": None,
        "name": "123",
        "metadata": {"crm": 7},
        "pool_id": "5",
        "updated_at": changed["tenant"]["updated_at"],
    }
    assert asked(say, "tenant", "disable", tenant["id"])["tenant"]["status"] == "disabled"
    assert asked(say, "tenant", "enable", tenant["id"])["tenant"]["status"] == "active"
    shown = asked(say, "tenant", "show", tenant["id"])
    assert shown["keys"] == [{name: value for name, value in made["api_key"].items() if name != "key"}]
    assert "with --yes" in say("tenant", "delete", tenant["id"], fails=True)
    assert asked(say, "tenant", "delete", tenant["id"], "--yes") == {"deleted": tenant["id"]}
    assert look(settings_file, lambda registry: registry.lookup(text)) is None


def test_what_people_see(say: Say) -> None:
    made = say("tenant", "create", "[red]Acme[/red]").splitlines()
    tenant_id = made[0].rpartition(" ")[2]
    text = made[1].rpartition(" ")[2]
    assert made[0] == f"Tenant [red]Acme[/red]: {tenant_id}"
    assert text.startswith("lk_live_")
    listed = say("tenant", "list")
    assert tenant_id in listed, "ids are whole"
    assert "[red]" in listed
    shown = say("tenant", "show", tenant_id)
    assert text.split("_")[2] in shown
    assert text.split("_", 3)[3] not in shown
    assert "max_upload_bytes  no limit" in shown
    assert f"({tenant_id}) is disabled. A server that is running follows" in say(
        "tenant", "disable", tenant_id
    )
    assert "is enabled." in say("tenant", "enable", tenant_id)
    assert "is changed." in say("tenant", "set", tenant_id, "burst=3")
    assert "is deleted." in say("tenant", "delete", tenant_id, "--yes")
    assert "The key" not in say("tenant", "create", "Bcme", "--no-key")


def test_a_key_from_beginning_to_end(say: Say, settings_file: Path) -> None:
    made = asked(
        say, "key", "create", "default", "--label", "app", "--scope", "jobs:read", "--days", "1.5", "--test"
    )
    key = made["api_key"]
    assert key["key"].startswith("lk_test_")
    assert (key["label"], key["scopes"]) == ("app", ["jobs:read"])
    assert key["expires_at"] == pytest.approx(key["created_at"] + 1.5 * 86400, abs=5)
    rotated = asked(say, "key", "rotate", key["key_id"], "--grace", "60")
    assert rotated["old"]["key_id"] == key["key_id"]
    assert rotated["old"]["expires_at"] == pytest.approx(rotated["api_key"]["created_at"] + 60)
    revoked = asked(say, "key", "revoke", rotated["api_key"]["key"])["revoked"]
    assert [one["key_id"] for one in revoked] == [rotated["api_key"]["key_id"]], "a key names its id"
    items = asked(say, "key", "list", "default")["items"]
    assert [one["revoked_at"] is None for one in items] == [True, True, False]
    assert "key" not in items[1]
    found = look(settings_file, lambda registry: registry.lookup(rotated["api_key"]["key"]))
    assert found[0].revoked_at is not None


def test_what_people_see_of_keys(say: Say) -> None:
    made = say("key", "create", "default", "--days", "3").splitlines()
    text, key_id = (line.rpartition(" ")[2] for line in made[:2])
    assert text.split("_")[2] == key_id
    assert "works until 20" in say("key", "rotate", key_id)
    again = say("key", "rotate", key_id, "--grace", "0")
    assert f"The old one, {key_id}, works until 20" in again
    listed = say("key", "list", "default")
    assert key_id in listed
    assert f"Revoked: {key_id}." in say("key", "revoke", text)
    assert "revoked" in say("key", "list", "default")


def test_a_lost_pepper_is_no_end(say: Say, settings_file: Path, tmp_path: Path) -> None:
    (tmp_path / "state" / "pepper").write_text("another pepper than before")
    assert "is not the pepper" in say("key", "create", "default", fails=True)
    assert "1 keys; say it again with --yes" in say("key", "revoke", "--all", fails=True)
    assert "Revoked: " in say("key", "revoke", "--all", "--yes")
    text = asked(say, "key", "create", "default")["api_key"]["key"]
    assert look(settings_file, lambda registry: registry.lookup(text)) is not None


REFUSED = [
    (("tenant", "show", "nobody"), "There is no tenant 'nobody'; linguad tenant list"),
    (("tenant", "set", "nobody", "burst=1"), "There is no tenant 'nobody'"),
    (("tenant", "disable", ""), "There is no tenant ''"),
    (("tenant", "delete", "default", "--yes"), "default cannot be deleted; disable it instead"),
    (("tenant", "set", "default", "burst=0"), "burst: allowed is a whole number from 1"),
    (("tenant", "create", ""), "name: allowed is 1 to 100"),
    (("key", "create", "nobody"), "There is no tenant 'nobody'"),
    (("key", "create", "default", "--label", "x" * 101), "label: allowed is up to 100"),
    (("key", "list", "nobody"), "There is no tenant 'nobody'"),
    (("key", "rotate", "nothing"), "There is no such key; linguad key list TENANT"),
    (("key", "revoke", "nothing"), "There is no such key; linguad key list TENANT"),
]


def test_what_cannot_be_is_one_sentence(say: Say) -> None:
    for words, says in REFUSED:
        error = say(*words, fails=True)
        assert error.startswith("linguad: ")
        assert says in error
        assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [("tenant",), ("tenant", "set", "default"), ("tenant", "set", "default", "brst=1"), ("key", "revoke")],
)
def test_wrong_use_is_code_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(list(words))
    assert end.value.code == 2
    assert f"linguad {words[0]}" in capsys.readouterr().err


def test_a_store_that_is_not_there_is_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINGUAD_SERVER__STATE_DIR", str(tmp_path / "state"))
    assert cli.main(["tenant", "list"]) == 1
    assert "There is no store at" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()
