"""Lanes: where the jobs of a session that a node must see in order go (node-protocol 5.6, 6.2)."""

from __future__ import annotations

from msgspec import Struct, field

MAX_NUMBERS = 8
"""Wire sessions of a lane in use at once; more than a job has attempts."""


class Lane(Struct):
    """An ordering context of a session; mutable: its node, its turn, and how far each wire session went."""

    route: int
    """Hash that chooses the preferred pool."""
    row: int = -1
    """Node of the last job."""
    turn_id: str = ""
    used_at: float = 0.0
    base: int = 1
    """Lowest attempt number in use; those below are behind us."""
    turn_number: int = 1
    """Attempt number of the last slice of the turn, which the next one shares."""
    highest: dict[int, int] = field(default_factory=dict)
    """Highest utterance index sent under each attempt number in use, that is in each wire session."""

    def number_for(self, index: int, turn_id: str, wanted: int) -> int:
        """The attempt number for an utterance: the wanted one, its turn's, or a fresh one if that is behind.

        Nodes do not translate a lower index after a higher one, and refuse the same one (node-protocol 0.3).
        """
        number = max(wanted, self.base)
        if turn_id == self.turn_id:
            number = max(number, self.turn_number)
        if self.highest.get(number, -1) < index:
            return number
        return max(number, *self.highest) + 1

    def sent(self, index: int, turn_id: str, number: int, row: int, now: float) -> None:
        """An utterance went to the node of this row as attempt `number`."""
        self.row, self.turn_id, self.turn_number, self.used_at = row, turn_id, number, now
        self.highest[number] = max(self.highest.get(number, -1), index)
        while len(self.highest) > MAX_NUMBERS:
            del self.highest[min(self.highest)]
            self.base = min(self.highest)
