"""The table of operations has what the app of the daemon serves, and nothing else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from linguad.config import Config
from linguad.config.server import Server
from linguad.core.clock import Clock
from linguad.daemon.public import PublicApi
from linguad.gateway.openapi.document import mismatches
from linguad.gateway.openapi.operations import OPERATIONS
from linguad.gateway.openapi.site import PAGE_PATH
from linguad.net.outbox import Budget
from linguad.net.peer import TrustedProxies
from linguad.store.start import opened


async def test_every_route_is_documented(tmp_path: Path) -> None:
    config = Config(server=Server(state_dir=str(tmp_path)))
    engine: Any = SimpleNamespace(keep_books=lambda *_: None)
    nobody: Any = None
    async with opened(config, {}) as kept:
        api = PublicApi(config, kept, TrustedProxies(()), nobody, engine, Clock(0.0), Budget(0), None)
    assert mismatches(api.routes, OPERATIONS, [PAGE_PATH, "/sdk/{name}"]) == []
