"""A process that is killed while it writes: what it had acknowledged is there, and nothing is half there."""

from __future__ import annotations

import subprocess
import sys

import pytest
import trio
from accounts import ACTOR, loaded

from linguad.core.api_key import parse
from linguad.store.database import Database

WRITER = """
import sys
import trio
from pathlib import Path
from linguad.core.accounts import SYSTEM, KeyWish
from linguad.store.database import Database
from linguad.store.pepper import Pepper
from linguad.store.registry import Registry

async def main(url):
    registry = Registry(Database(url), Pepper(b"salt of the tests", Path("pepper")))
    await registry.load()
    while True:
        _, issued = await registry.create_tenant(SYSTEM, "Acme", key=KeyWish())
        print(issued.text, flush=True)

trio.run(main, sys.argv[1])
"""


def killed_writer(url: str, acknowledged: int) -> list[str]:
    """The keys that a process had made when it was killed, after so many or a few more."""
    with subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(acknowledged)]
        writer.kill()
        said += writer.stdout.readlines()
    return [line.strip() for line in said if line.endswith("\n")]


@pytest.mark.parametrize("acknowledged", [1, 7, 20])
async def test_nothing_that_was_acknowledged_is_lost(database: Database, url: str, acknowledged: int) -> None:
    texts = await trio.to_thread.run_sync(killed_writer, url, acknowledged)
    assert len(texts) >= acknowledged
    registry = await loaded(database)
    for text in texts:
        found = registry.lookup(text)
        assert found is not None
        parts = parse(text)
        assert parts is not None
        assert found[0].id == parts.id
    tenants = registry.tenants()
    assert len(tenants) in (len(texts), len(texts) + 1), "one more may be done that nobody was told of"
    assert all(len(registry.keys_of(tenant.id)) == 1 for tenant in tenants)
    trail = await registry.audit_trail(limit=1000)
    assert len(trail) == 2 * len(tenants)
    await registry.create_tenant(ACTOR, "and on it goes")
