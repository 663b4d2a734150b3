"""Long work in short steps: whoever has it done looks after others in between, or does not."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

Steps = Generator[None, None, T]
"""Work that pauses now and then and has a result at its end. Between two steps the world may change."""

NODES_PER_STEP = 200
"""Nodes looked at in one step, which takes a few ms."""


def at_once(steps: Steps[T]) -> T:
    """Do all the work; its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def parts(items: Sequence[T], most: int = NODES_PER_STEP) -> Iterator[Sequence[T]]:
    """The items in parts, one for each step."""
    return (items[first : first + most] for first in range(0, len(items), most))
