"""Instances in one process, each with connections of its own, for the tests of this directory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio
from links import until
from patience import PATIENCE_S

from linguad.cluster.service import Cluster
from linguad.config.cluster import Cluster as ClusterSettings
from linguad.wire.letters import Letter

TEST_S = 2 * PATIENCE_S
"""Longest any test may take, s."""

STEADY_S = 10.0
"""A heartbeat with which nobody is taken for dead, however busy the machine is: all have it unless told."""

SHORT_S = 2.0
"""For tests of deaths, so that they are noticed soon: whoever stands still for longer is taken for dead."""


class Note(Letter, frozen=True):
    """A letter that means nothing."""

    text: str = ""


class Legacy(Letter, frozen=True):
    """A letter that an heir can use, and that may be kept."""

    outlives = True
    kept = True

    text: str = ""


class Instance:
    """One instance, and the notes that it got."""

    def __init__(self, name: str, url: str = "", urls: tuple[str, ...] = (), **settings: object) -> None:
        given = {"heartbeat_seconds": STEADY_S} | settings
        self.name = name
        self.cluster = Cluster(
            ClusterSettings(instance_id=name, redis_url=url, redis_urls=urls, **given),  # type: ignore[arg-type]
            lambda: (2, 3),
        )
        self.got: list[tuple[str, str, bytes]] = []
        self.told: list[str] = []
        self.scope = trio.CancelScope()
        self.cluster.bus.on(Note, self.take)
        self.cluster.bus.on(Legacy, self.take)
        self.cluster.when_up(lambda: self.told.append("up"))
        self.cluster.when_down(lambda: self.told.append("down"))
        peers = self.cluster.peers
        peers.when_new(lambda peer: self.told.append(f"new {peer}"))
        peers.when_gone(lambda peer: self.told.append(f"gone {peer}"))
        peers.when_draining(lambda peer: self.told.append(f"draining {peer}"))

    @property
    def texts(self) -> list[str]:
        """What the notes said."""
        return [text for _, text, _ in self.got]

    def take(self, sender: str, letter: Note | Legacy, audio: bytes) -> None:
        """Handle a letter."""
        if letter.text == "bug":
            raise ZeroDivisionError
        self.got.append((sender, letter.text, audio))

    def send(self, to: Instance | str, text: str, *, expires_s: float = 60, audio: bytes = b"") -> bool:
        """Send a note."""
        name = to if isinstance(to, str) else to.name
        return self.cluster.bus.send(name, Note(text), lane="test", expires_s=expires_s, audio=audio)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled or `scope` is, which is as a kill: nobody is told."""
        with self.scope:
            await self.cluster.run(task_status=task_status)

    async def knows(self, *others: Instance) -> None:
        """Wait until it is a member and sees exactly these others."""
        names = {other.name for other in others}
        await until(
            lambda: self.cluster.up and set(self.cluster.peers.alive()) == names, f"{self.name} knows"
        )


@asynccontextmanager
async def members(*instances: Instance) -> AsyncGenerator[trio.Nursery]:
    """Run them, from when all know each other, to the end of the block."""
    with trio.fail_after(TEST_S):
        async with trio.open_nursery() as nursery:
            for one in instances:
                await nursery.start(one.run)
            for one in instances:
                await one.knows(*(other for other in instances if other is not one))
            yield nursery
            nursery.cancel_scope.cancel()
