"""Codes that a person types to have a session served by one node alone.

Node-protocol 5.7, session-protocol 7, resolution 22.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from linguad.core.tries import WrongTries

CODE_TTL_S = 300.0
"""How long a code can be used."""


class LiveCode(Struct, frozen=True):
    """A code that nobody has used yet; `expires_at` is monotonic s."""

    code: str
    node_id: str
    expires_at: float


class PairingCodes:
    """Mutable state: one code per node at most, and the wrong tries of the last minute by address."""

    def __init__(self, fresh: Callable[[], str]) -> None:
        """`fresh` gives unguessable codes of 6 decimal digits."""
        self._fresh = fresh
        self._live: dict[str, LiveCode] = {}
        self._of_node: dict[str, LiveCode] = {}
        self._wrong = WrongTries()
        self.when_made: Callable[[LiveCode], None] = _nothing
        """Called with each new code."""
        self.when_ended: Callable[[LiveCode], None] = _nothing
        """Called with each code that can no longer be used, and was not too old."""

    @property
    def live(self) -> list[LiveCode]:
        """Codes that nobody has used, oldest first; some may have expired."""
        return list(self._live.values())

    def create(self, node_id: str, now: float) -> LiveCode:
        """A code for a node in place of the one it had."""
        self._expire(now)
        self.forget(node_id)
        while (code := self._fresh()) in self._live:
            pass
        live = LiveCode(code, node_id, now + CODE_TTL_S)
        self._live[code] = self._of_node[node_id] = live
        self.when_made(live)
        return live

    def allows(self, address: str, now: float) -> bool:
        """Whether a code from this address is looked at."""
        return self._wrong.allows(address, now)

    def wrong(self, address: str, now: float) -> None:
        """A code from this address was wrong."""
        self._wrong.add(address, now)

    def used(self, code: str) -> None:
        """A code was used, perhaps at another instance."""
        live = self._live.get(code)
        if live is not None:
            self.forget(live.node_id)

    def redeem(self, code: str, address: str, now: float) -> str | None:
        """The node that a code stands for, which it does only once; None if wrong or after too many tries."""
        self._expire(now)
        if not self._wrong.allows(address, now):
            return None
        live = self._live.get(code)
        if live is None:
            self._wrong.add(address, now)
            return None
        self.forget(live.node_id)
        return live.node_id

    def of(self, node_id: str, now: float) -> LiveCode | None:
        """The code of a node that can be used now."""
        self._expire(now)
        return self._of_node.get(node_id)

    def forget(self, node_id: str) -> None:
        """The code of a node, if there is one, can no longer be used."""
        live = self._of_node.pop(node_id, None)
        if live is not None:
            del self._live[live.code]
            self.when_ended(live)

    def _expire(self, now: float) -> None:
        # all are valid for the same time, so the oldest expires first
        while self._live and (oldest := next(iter(self._live.values()))).expires_at <= now:
            self.forget(oldest.node_id)


def _nothing(_live: LiveCode) -> None:
    """Nobody wants to know."""
