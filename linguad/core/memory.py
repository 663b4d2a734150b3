"""What is remembered of a node when its record is gone, and over restarts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from linguad.core.key import Key
from linguad.wire.override import Override

MAX_REMEMBERED = 10_000
"""Nodes remembered without a record; the one that is longest gone is forgotten for a new one."""

MAX_SPEEDS = 200
"""Learned speeds remembered of a node, those of the keys it worked for last."""


class Remembered(Struct, frozen=True, kw_only=True):
    """What one node takes with it into its next record."""

    said: Override = Override()
    """What an operator said over HTTP."""
    failed_probations: int = 0
    on_probation: bool = False
    quarantined_until: float = 0.0
    """Monotonic s; what has passed means nothing."""
    speeds: tuple[tuple[Key, float], ...] = ()
    """Audio seconds per second, the key it worked for last at the end."""


NOTHING = Remembered()


class Memory:
    """Mutable state: what is remembered of nodes without a record, the longest gone first."""

    def __init__(self) -> None:
        self._gone: dict[str, Remembered] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._gone)

    def __getitem__(self, node_id: str) -> Remembered:
        """NOTHING of a node that was never seen."""
        return self._gone.get(node_id, NOTHING)

    def keep(self, node_id: str, remembered: Remembered) -> None:
        """The record of a node goes."""
        self._gone.pop(node_id, None)
        if remembered != NOTHING:
            self._gone[node_id] = remembered
            if len(self._gone) > MAX_REMEMBERED:
                del self._gone[next(iter(self._gone))]

    def take(self, node_id: str) -> Remembered:
        """A node has a record again."""
        return self._gone.pop(node_id, NOTHING)

    def restore(self, nodes: Mapping[str, Remembered]) -> None:
        """What another process remembered, the longest gone first."""
        for node_id, remembered in nodes.items():
            self.keep(node_id, remembered)
