"""Long work of the core, done while others have their turn."""

from __future__ import annotations

import trio

from linguad.core.steps import Steps, T


async def patiently(steps: Steps[T]) -> T:
    """Do the work; others have their turn between its steps."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await trio.lowlevel.checkpoint()
