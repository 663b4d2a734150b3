"""Who else is there, as decided from what Redis holds. No I/O.

A peer is gone when its sign of life is missing, or another process has taken its name. After Redis was away
signs may be missing because nobody could renew them: then they are waited for first.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import NamedTuple

from linguad.wire.peer import Peer


class Change(NamedTuple):
    """What became of one peer; of one that restarted there are two."""

    what: str
    """`new`, `gone` or `draining`."""
    peer: Peer


class PeerTable:
    """Mutable state: the peers that live, as last seen."""

    def __init__(self, patience_s: float) -> None:
        """`patience_s`: how long signs of life are waited for after Redis was away."""
        self._patience_s = patience_s
        self._trusted_from = inf
        self.alive: dict[str, Peer] = {}

    def blind(self) -> None:
        """Redis is away: nothing can be said until it is back."""
        self._trusted_from = inf

    def sighted(self, now: float) -> None:
        """Redis is back; who is missing has this long to show up."""
        if self._trusted_from == inf:
            self._trusted_from = now + self._patience_s

    def trusts(self, now: float) -> bool:
        """Whether who is missing has had its time."""
        return now >= self._trusted_from

    def seen(self, found: Mapping[str, Peer], now: float) -> list[Change]:
        """Take what was found in Redis; tells what changed, departures first."""
        gone = [peer for name, peer in self.alive.items() if self._is_gone(peer, found.get(name), now)]
        for peer in gone:
            del self.alive[peer.instance]
        changes = [Change("gone", peer) for peer in gone]
        for name, peer in found.items():
            before = self.alive.get(name)
            self.alive[name] = peer
            if before is None:
                changes.append(Change("new", peer))
            if peer.draining and not (before and before.draining):
                changes.append(Change("draining", peer))
        return changes

    def _is_gone(self, peer: Peer, found: Peer | None, now: float) -> bool:
        if found is None:
            return self.trusts(now)
        return found.boot != peer.boot
