"""Which nodes fit which keys, kept in step with the compiled table (design 6, resolution 33).

Keys are built on first use, only when somebody serves them; of too many the oldest is dropped:
what clients ask for cannot make the index grow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from linguad.core.key import ANY, Key
from linguad.core.node import Node
from linguad.pools import NodeTable

MAX_KEYS = 20_000
"""Keys in the index; for one more the oldest is dropped, to be built anew when a job asks for it."""

MAX_UNSERVED_KEYS = 10_000
"""Remembered keys nobody serves; a bound, not a tuning value."""


class KeyIndex:
    """Mutable state: the table's handle of each key, the rows in it, and the keys of each row."""

    def __init__(
        self, table: NodeTable, by_row: Mapping[int, Node], speed: Callable[[Node, Key], float]
    ) -> None:
        self._table = table
        self._by_row = by_row
        self._speed = speed
        self._handles: dict[Key, int] = {}
        self._rows: dict[Key, set[int]] = {}
        self._keys: dict[int, set[Key]] = {}
        self._unserved: set[Key] = set()
        self._languages: Counter[str] = Counter()
        self._counted: dict[int, set[str]] = {}

    def handle(self, key: Key) -> int | None:
        """The table's handle of a key, or None while no registered node serves it."""
        handle = self._handles.get(key)
        if handle is not None or key in self._unserved:
            return handle
        if any(side != ANY and side not in self._languages for side in (key.src, key.tgt)):
            return None
        rows = [row for row, node in self._by_row.items() if node.fits(key)]
        if not rows:
            if len(self._unserved) >= MAX_UNSERVED_KEYS:
                self._unserved.clear()
            self._unserved.add(key)
            return None
        if len(self._handles) >= MAX_KEYS:
            self._drop(next(iter(self._handles)))
        handle = self._handles[key] = self._table.add_key()
        self._rows[key] = set()
        for row in rows:
            self._join(key, handle, row)
        return handle

    def handles(self) -> dict[Key, int]:
        """The handles of all keys that are in use, the oldest first; a copy."""
        return self._handles.copy()

    def rows(self, key: Key) -> set[int]:
        """The rows of a key that is in use."""
        return self._rows[key]

    def keys(self, row: int) -> set[Key]:
        """The keys a row is in."""
        return self._keys[row]

    def add(self, row: int) -> None:
        """A new row, in no key yet."""
        self._keys[row] = set()

    def update(self, row: int) -> None:
        """The node of a row offers something else: it joins the keys it fits now and leaves the others."""
        self._unserved.clear()
        node, joined = self._by_row[row], self._keys[row]
        self._count_languages(row, node.languages.codes)
        for key, handle in list(self._handles.items()):
            fits = node.fits(key)
            if fits and key not in joined:
                self._join(key, handle, row)
            elif not fits and key in joined:
                self._table.leave(handle, row)
                joined.discard(key)
                self._rows[key].discard(row)
                if not self._rows[key]:
                    self._drop(key)

    def speed_changed(self, row: int, key: Key) -> None:
        """Tell the table how fast the node of a row is now, if it is in this key."""
        if key in self._keys[row]:
            self._table.set_speed(self._handles[key], row, self._speed(self._by_row[row], key))

    def remove(self, row: int) -> None:
        """Forget a row, which has left its keys."""
        del self._keys[row], self._counted[row]

    def _drop(self, key: Key) -> None:
        for row in self._rows.pop(key):
            self._keys[row].discard(key)
        self._table.remove_key(self._handles.pop(key))

    def _join(self, key: Key, handle: int, row: int) -> None:
        self._table.join(handle, row, self._speed(self._by_row[row], key))
        self._keys[row].add(key)
        self._rows[key].add(row)

    def _count_languages(self, row: int, codes: set[str]) -> None:
        before = self._counted.get(row, set())
        self._languages.update(codes - before)
        for code in before - codes:
            self._languages[code] -= 1
            if not self._languages[code]:
                del self._languages[code]
        self._counted[row] = codes
