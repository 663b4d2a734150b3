"""Word between processes with one store that something in it has changed, for who has all of it in memory."""

from __future__ import annotations

from collections.abc import Callable

import trio

POLL_SECONDS = 1.0
"""How often the store is asked whether another process changed something; one row is read."""


class News:
    """What one register tells and hears. Mutable state: whether others have given a hint.

    `tell` is called when something was changed by us and is in the store; set it to have others know at once.
    """

    def __init__(self) -> None:
        self.tell: Callable[[], object] = lambda: None
        self._hint = trio.Event()

    def hint(self) -> None:
        """Another process has changed something: see it now rather than within a second."""
        self._hint.set()

    async def wait(self) -> None:
        """Wait until it is time to ask the store again."""
        with trio.move_on_after(POLL_SECONDS):
            await self._hint.wait()
        self._hint = trio.Event()
