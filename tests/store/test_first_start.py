"""What the daemon does with its store at the start: the tenant `default`, its key, the pepper, the lock."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from accounts import ACTOR, loaded
from sqlalchemy import select

from linguad import config, log
from linguad.config import Config
from linguad.core.accounts import DEFAULT_TENANT, KeyWish
from linguad.core.tenant import DEFAULT_SCOPES
from linguad.errors import LinguadError
from linguad.store.database import Database
from linguad.store.pepper import load_pepper
from linguad.store.registry import Registry
from linguad.store.schema import metadata
from linguad.store.start import opened, operator_key

FIRST = "sesame, open yourself! 0123456789"
SECOND = "open, wheat! open, barley! 012345"


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """What is logged, as JSON lines."""
    stream = io.StringIO()
    log.configure(config.Log(format="json"), stream=stream)
    yield stream
    log.reset()


@pytest.fixture
def settings(url: str, tmp_path: Path) -> Config:
    """A configuration with each kind of database."""
    return made(url, tmp_path)


def made(url: str, tmp_path: Path, **gateway: Any) -> Config:
    """A configuration."""
    tables = {"server": {"state_dir": str(tmp_path / "state")}, "store": {"url": url}, "gateway": gateway}
    return msgspec.convert(tables, Config)


def env(key: str = "") -> dict[str, str]:
    return {"LINGUA_API_KEY": key} if key else {}


def events(logged: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged.getvalue().splitlines()]


def opens(registry: Registry, text: str) -> bool:
    found = registry.lookup(text)
    return found is not None and found[0].usable(registry.now()) and found[1].active


async def test_a_first_start_makes_a_key(settings: Config, logged: io.StringIO) -> None:
    async with opened(settings, {}) as (_, registry, _, path):
        assert path == settings.state_dir() / "dev_api_key"
        assert path.stat().st_mode & 0o777 == 0o600
        text = path.read_text().strip()
        (key,) = registry.keys_of(DEFAULT_TENANT)
        assert opens(registry, text)
        assert text.startswith("lk_test_")
        assert key.scopes == DEFAULT_SCOPES
        assert [tenant.id for tenant in registry.tenants()] == [DEFAULT_TENANT]
    (event,) = events(logged)
    assert (event["event"], event["file"], event["key_id"]) == ("dev_key_made", str(path), key.id)
    assert text not in logged.getvalue()
    async with opened(settings, {}) as (_, registry, _, again):
        assert again == path
        assert opens(registry, text)
        assert registry.keys_of(DEFAULT_TENANT) == [key], "a second start makes none"


async def test_the_first_key_can_be_revoked(settings: Config) -> None:
    async with opened(settings, {}) as (_, registry, _, path):
        assert path is not None
        tenant, _ = await registry.create_tenant(ACTOR, "Acme", key=KeyWish())
        (key,) = registry.keys_of(DEFAULT_TENANT)
        await registry.revoke_key(ACTOR, key.id)
    async with opened(settings, {}) as (_, registry, _, again):
        assert again is None, "its file names a key that opens nothing"
        assert len(registry.keys_of(DEFAULT_TENANT)) == 1, "another key works"
        await registry.delete_tenant(ACTOR, tenant.id)
    async with opened(settings, {}) as (_, registry, _, again):
        assert again == path
        assert opens(registry, path.read_text().strip())


async def test_a_first_key_that_cannot_be_kept_is_not_made(settings: Config, database: Database) -> None:
    path = settings.state_dir() / "dev_api_key"
    path.mkdir(parents=True)
    with pytest.raises(LinguadError, match=r"first key cannot be kept in .*server\.state_dir"):
        async with opened(settings, {}):
            pass
    assert (await loaded(database, pepper=None)).keys_of(DEFAULT_TENANT) == []


async def test_real_customers_get_no_key_by_itself(url: str, tmp_path: Path, logged: io.StringIO) -> None:
    settings = made(url, tmp_path, production=True)
    async with opened(settings, {}) as (_, registry, _, path):
        assert path is None
        assert registry.keys_of(DEFAULT_TENANT) == []
    (event,) = events(logged)
    assert (event["event"], event["level"]) == ("no_usable_key", "warning")
    assert "linguad key create default" in event["cure"]


async def test_the_operators_key(settings: Config, logged: io.StringIO) -> None:
    async with opened(settings, env(FIRST)) as (_, registry, _, path):
        assert path is None
        assert opens(registry, FIRST)
        (key,) = registry.keys_of(DEFAULT_TENANT)
        assert (key.prefix, key.label) == ("", "LINGUA_API_KEY")
    async with opened(settings, env(f" {FIRST}\n")) as (_, registry, _, _):
        assert registry.keys_of(DEFAULT_TENANT) == [key]
    async with opened(settings, env(SECOND)) as (_, registry, _, _):
        assert opens(registry, SECOND)
        assert not opens(registry, FIRST), "the one before is revoked"
    async with opened(settings, {}) as (_, registry, _, path):
        assert path is None
        assert opens(registry, SECOND), "to unset it revokes nothing"
    async with opened(settings, env(FIRST)) as (_, registry, _, _):
        assert opens(registry, FIRST), "in force again"
        assert not opens(registry, SECOND)
        assert len(registry.keys_of(DEFAULT_TENANT)) == 2
        trail = [one.action for one in await registry.audit_trail()]
        assert trail[::-1] == [
            "tenant.create",
            "key.take",
            "key.take",
            "key.revoke",
            "key.restore",
            "key.revoke",
        ]
    assert [one["event"] for one in events(logged)] == ["operator_key_taken"] * 3
    assert FIRST not in logged.getvalue()


async def test_an_operators_key_that_was_revoked_stays_so(settings: Config, logged: io.StringIO) -> None:
    async with opened(settings, env(FIRST)) as (_, registry, _, _):
        (key,) = registry.keys_of(DEFAULT_TENANT)
        await registry.revoke_key(ACTOR, key.id)
    async with opened(settings, env(FIRST)) as (_, registry, _, _):
        assert not opens(registry, FIRST)
    assert events(logged)[-1]["event"] == "operator_key_revoked"
    assert events(logged)[-1]["key_id"] == key.id


async def test_an_operators_key_of_another_tenant_is_refused(settings: Config) -> None:
    async with opened(settings, {}) as (_, registry, _, _):
        tenant, issued = await registry.create_tenant(ACTOR, "Acme", key=KeyWish())
        assert issued is not None
    with pytest.raises(LinguadError, match=f"LINGUA_API_KEY cannot be used: .*{tenant.id}.*openssl rand"):
        async with opened(settings, env(issued.text)):
            pass


async def test_a_generated_key_may_be_the_operators(settings: Config) -> None:
    async with opened(settings, {}) as (_, _, _, path):
        assert path is not None
    text = path.read_text().strip()
    async with opened(settings, env(text)) as (_, registry, _, _):
        assert opens(registry, text)
        assert len(registry.keys_of(DEFAULT_TENANT)) == 1


@pytest.mark.parametrize("production", [False, True])
@pytest.mark.parametrize("text", ["x" * 15, "x" * 257, "é" * 40, "x\x00" * 20, "x\ny" * 20])
def test_operators_keys_that_cannot_be(text: str, production: bool) -> None:
    with pytest.raises(LinguadError, match=r"16 to 256 printable ASCII.*openssl rand -hex 32") as caught:
        operator_key(env(text), production=production)
    assert text not in str(caught.value)


def test_short_operators_keys(logged: io.StringIO) -> None:
    assert operator_key(env("x" * 31), production=False) == "x" * 31
    (event,) = events(logged)
    assert (event["event"], event["chars"], event["wanted"]) == ("operator_key_short", 31, 32)
    with pytest.raises(LinguadError, match=r"31 characters.*asks for 32.*openssl rand -hex 32"):
        operator_key(env("x" * 31), production=True)
    assert operator_key(env("x" * 32), production=True) == "x" * 32
    assert operator_key({"LINGUA_API_KEY": "  "}, production=True) == ""


async def test_a_wrong_pepper_is_refused(settings: Config) -> None:
    async with opened(settings, env(FIRST)) as (_, registry, _, _):
        (key,) = registry.keys_of(DEFAULT_TENANT)
    pepper = settings.state_dir() / "pepper"
    assert pepper.stat().st_mode & 0o777 == 0o600
    kept = pepper.read_bytes()
    pepper.unlink()
    with pytest.raises(LinguadError, match=r"is not the pepper .*gateway\.pepper_file.*key revoke --all"):
        async with opened(settings, env(FIRST)):
            pass
    other = pepper.read_bytes()
    assert other != kept
    pepper.write_bytes(kept)
    async with opened(settings, env(FIRST)) as (_, registry, _, _):
        await registry.revoke_key(ACTOR, key.id)
    pepper.write_bytes(other)
    async with opened(settings, env(SECOND)) as (_, registry, _, _):
        assert opens(registry, SECOND), "no key suffers, so the new pepper holds"


async def test_a_pepper_of_the_operator(url: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("0123456789abcdef\n")
    async with opened(made(url, tmp_path, pepper_file=str(file)), env(FIRST)) as (_, registry, _, _):
        assert opens(registry, FIRST)
    file.write_text("0123456789abcdef")
    async with opened(made(url, tmp_path, pepper_file=str(file)), env(FIRST)) as (_, registry, _, _):
        assert opens(registry, FIRST), "an end of line is no part of it"
    assert not (tmp_path / "state" / "pepper").exists()


def test_peppers_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(LinguadError, match=r"cannot be read from .*No such file.*gateway\.pepper_file"):
        load_pepper(str(tmp_path / "none"), tmp_path)
    (tmp_path / "short").write_text("0123456789abcde \n")
    with pytest.raises(LinguadError, match=r"shorter than 16 bytes.*openssl rand"):
        load_pepper(str(tmp_path / "short"), tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(LinguadError, match="File exists"):
        load_pepper("", tmp_path / "file")
    assert load_pepper("", tmp_path).verifier("x") == load_pepper("", tmp_path).verifier("x")
    assert sorted(os.listdir(tmp_path)) == ["file", "pepper", "short"]


async def test_a_second_daemon_on_the_same_file_is_refused(tmp_path: Path) -> None:
    settings = made("", tmp_path)
    async with opened(settings, {}):
        with pytest.raises(LinguadError, match=r"Another linguad .*linguad\.db; .*store\.shared = true"):
            async with opened(settings, {}):
                pass
        shared = msgspec.structs.replace(settings, store=config.TABLES["store"](shared=True))  # type: ignore[call-arg]
        async with opened(shared, {}):
            pass
    async with opened(settings, {}):
        pass


async def test_databases_on_a_server_are_always_shared(postgres: Any, tmp_path: Path) -> None:
    settings = made(postgres.make_database(), tmp_path)
    async with opened(settings, {}), opened(settings, {}) as (_, registry, _, path):
        assert path is not None
        assert len(registry.keys_of(DEFAULT_TENANT)) == 1


async def test_the_last_uses_are_written_at_the_end(settings: Config) -> None:
    async with opened(settings, env(FIRST)) as (_, registry, _, _):
        (key,) = registry.keys_of(DEFAULT_TENANT)
        registry.used(key.id)
        used = registry.key(key.id)
    async with opened(settings, env(FIRST)) as (_, registry, _, _):
        assert registry.key(key.id) == used


async def test_the_store_holds_no_part_of_a_key(settings: Config, tmp_path: Path) -> None:
    async with opened(settings, env(FIRST)) as (database, registry, _, _):
        tenant, issued = await registry.create_tenant(ACTOR, "Acme", key=KeyWish(label="app"))
        assert issued is not None
        rotated = await registry.rotate_key(ACTOR, issued.key.id, 60)
        for text in (issued.text, rotated.text, FIRST):
            found = registry.lookup(text)
            assert found is not None
            registry.used(found[0].id)
        await registry.flush()
        await registry.revoke_key(ACTOR, rotated.key.id)
        await registry.delete_tenant(ACTOR, tenant.id)
        rows = [
            repr(
                await database.read(lambda connection, one=one: connection.execute(select(one)).all())
            ).encode()
            for one in metadata.sorted_tables
        ]
        files = [path.read_bytes() for path in (tmp_path / "state").iterdir()]
    files += [path.read_bytes() for path in (tmp_path / "state").iterdir()]
    assert re.search(issued.key.id.encode(), b"".join(rows)), "what is searched holds the keys"
    for text in (issued.text, rotated.text, FIRST):
        secret = text.split("_", 3)[3] if text.startswith("lk_") else text
        parts = {secret[start : start + 8].encode() for start in range(len(secret) - 7)}
        assert [part for part in parts for content in (*rows, *files) if part in content] == []
