"""A selection played through on a copy of the table: the same choice, and nobody notices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from linguad.core.index import MAX_KEYS
from linguad.core.key import Key
from linguad.core.node import Node
from linguad.core.steps import Steps, parts
from linguad.pools import NodeTable

InTurn = Callable[[Key, int, str], Iterator[Key]]
"""A key for each capability pool of a key, in the order in which they are asked."""


class Rehearsal:
    """Mutable state: a copy of the fleet's table, in which keys are built as the index does it."""

    def __init__(
        self,
        table: NodeTable,
        handles: dict[Key, int],
        nodes: dict[int, Node],
        speed: Callable[[Node, Key], float],
        in_turn: InTurn,
        *,
        public: bool = True,
    ) -> None:
        """All are copies, handles with the oldest first. Not `public`: for jobs that may go to any node."""
        self.nodes = nodes
        self._table = table
        self._before = table
        self._handles = handles if public else {}
        self._speed = speed
        self._in_turn = in_turn
        self._public = public

    def fits(self, node: Node, key: Key) -> bool:
        """Whether a node can do the jobs of a key."""
        if node.fits(key) or self._public:
            return node.fits(key)
        return (not key.pools or node.pool in key.pools) and node.fits(key._replace(node=node.id))

    def used(self, row: int) -> int:
        """Slots of a row that were out before a selection was played."""
        return self._before.used(row)

    def select(
        self,
        key: Key,
        route: int,
        audio_s: float,
        exclude: Sequence[int] = (),
        sticky: int = -1,
        tenant: str = "",
    ) -> Steps[tuple[list[Key], int | None]]:
        """What `Fleet.select` would do: the keys asked, and the row that the last of them gave if one did."""
        found: list[Key] = []
        self._before = self._table.copy()
        if (yield from self._handle(key)) is not None:
            for asked in self._in_turn(key, route, tenant):
                found.append(asked)
                handle = yield from self._handle(asked)
                row = -1 if handle is None else self._table.select(handle, route, audio_s, exclude, sticky)
                if row >= 0:
                    return found, row
        return found or list(self._in_turn(key, route, tenant)), None

    def explain(
        self,
        key: Key,
        route: int,
        audio_s: float,
        exclude: Sequence[int] = (),
        sticky: int = -1,
        tenant: str = "",
    ) -> Steps[list[dict[str, Any]]]:
        """Every row that fits a key as `Fleet.select` would see it, in its order."""
        found: list[dict[str, Any]] = []
        chosen = False
        if (yield from self._handle(key)) is None:
            return found
        for asked in self._in_turn(key, route, tenant):
            handle = yield from self._handle(asked)
            if handle is None:
                continue
            rows = self._table.explain(handle, route, audio_s, exclude, sticky)
            found += [row | {"selected": row["selected"] and not chosen} for row in rows]
            # where it finds nobody it draws numbers all the same
            chosen = chosen or self._table.select(handle, route, audio_s, exclude, sticky) >= 0
        return found

    def scores(
        self, key: Key, nodes: Sequence[tuple[int, Node]], route: int, audio_s: float
    ) -> dict[int, dict[str, Any]]:
        """As `explain`, of some nodes that fit, by row: how they stood before a selection was played."""
        handle = self._before.add_key()
        for row, node in nodes:
            self._before.join(handle, row, self._speed(node, key))
        found = {}
        for score in self._before.explain(handle, route, audio_s):
            number, pool, pools = self._table.where(score["row"])
            found[score["row"]] = score | {"class": number, "pool": pool, "rank": (pool - route) % pools}
        self._before.remove_key(handle)
        return found

    def _handle(self, key: Key) -> Steps[int | None]:
        handle = self._handles.get(key)
        if handle is not None:
            return handle
        rows = []
        for some in parts(list(self.nodes.items())):
            rows += [(row, node) for row, node in some if self.fits(node, key)]
            yield
        if not rows:
            return None
        if len(self._handles) >= MAX_KEYS:
            self._table.remove_key(self._handles.pop(next(iter(self._handles))))
        handle = self._handles[key] = self._table.add_key()
        for more in parts(rows):
            for row, node in more:
                self._table.join(handle, row, self._speed(node, key))
            yield
        return handle
