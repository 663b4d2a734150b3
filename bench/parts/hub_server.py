"""A hub in a process of its own, for benches: prints its port, ends with its standard input."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from linguad.config.hub import Hub as Settings
from linguad.daemon.tree import SWITCH_SECONDS
from linguad.hub.access import NoKeys
from linguad.hub.hub import Hub
from linguad.net import collector
from linguad.net.front import FrontSettings
from linguad.net.listen import listen, port_of
from linguad.store.database import Database
from linguad.store.hub import HubRecords

RATE = 1e6
"""No limit that the bench would meet, requests/s."""


async def main(root: Path) -> None:
    """Serve `root` until standard input ends."""
    database = Database(f"sqlite:///{root.parent / 'bench.db'}")
    await database.open()
    settings = Settings(host="127.0.0.1", port=0, requests_per_second=RATE, rescan_seconds=1.0)
    hub = Hub(settings, root, NoKeys(), HubRecords(database), "", FrontSettings())
    await hub.open()
    sys.setswitchinterval(SWITCH_SECONDS)
    collector.settle()
    listeners = await listen("127.0.0.1", 0, 100, "hub.port")
    async with trio.open_nursery() as services:
        await services.start(hub.run)
        await services.start(hub.front.serve, listeners, services)
        print(port_of(listeners), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        services.cancel_scope.cancel()
    await database.close()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]))
