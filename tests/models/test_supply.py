"""The node's side of its models: what goes wrong while an engine is brought its model."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from played_hub import played_hub

from linguad.commands import supply
from linguad.commands.supply import Supply
from linguad.models.errors import RegistryError
from linguad.models.keeper import Keeper
from linguad.models.manager import ModelManager, Settings
from linguad.models.names import Key
from linguad.worker.engines import NEEDS

MODEL = NEEDS["pocketsphinx"].model_id


async def test_a_disk_that_fails_while_a_bad_model_is_looked_at_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine does not start with this model, and why cannot be found out at first."""
    settle, failures = Keeper.settle, [RegistryError("registry.json cannot be written: No space left")]

    async def unlucky(self: Keeper, one: Key) -> str | None:
        if failures:
            raise failures.pop()
        return await settle(self, one)

    monkeypatch.setattr(Keeper, "settle", unlucky)
    monkeypatch.setattr(supply, "FIRST_PAUSE_SECONDS", 0.01)
    async with played_hub({MODEL: {"1.0.0": {"en-us/mdef": b"no such thing"}}}) as hub:
        problems: list[str] = []
        with trio.fail_after(120):
            async with ModelManager.open(Settings(data=tmp_path, hub=hub.url)) as manager:
                brought, settled = Supply(manager, 60, problems), trio.Event()
                await brought.bring("pocketsphinx", settled)
        assert (failures, len(problems), brought.lacks()) == ([], 1, [])
        assert settled.is_set()


async def test_a_hub_that_asks_for_a_token_gets_it(tmp_path: Path) -> None:
    async with played_hub({"m": {"1.0.0": {"a": b"1"}}}) as hub:
        async with ModelManager.open(Settings(data=tmp_path, hub=hub.url, token="secret")) as manager:
            await manager.ensure("m")
        assert {asked.headers.get("authorization") for asked in hub.asked} == {"Bearer secret"}
