"""Lanes: where the jobs of a session that a node must see in order go (node-protocol 5.6, 6.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

if TYPE_CHECKING:
    from linguad.core.job import Attempt

MAX_NUMBERS = 8
"""Wire sessions of a lane in use at once; more than a job has attempts."""

MAX_RECENT = 8
"""Nodes of a lane that are remembered; more than a selection can exclude."""

MAX_SEEN = MAX_RECENT * MAX_NUMBERS
"""Wire sessions of these nodes that are remembered."""

KEEPS_BELOW_S = 5.0
"""Audio after a pause that a node may keep back to join it to what follows, when there is less of it."""

KEPT_S = 10.0
"""How long it keeps such audio (node-protocol 9)."""


class Lane(Struct):
    """An ordering context of a session; mutable: its node, its turn, and how far each wire session went.

    Nodes know a lane by a wire session: `NAME`, then `NAME~s1`, `NAME~s2` ... where a node would otherwise
    see a gap in the indexes; attempts after the first add `~r2`, `~r3` ...
    """

    name: str
    route: int
    """Hash that chooses the preferred pool."""
    row: int = -1
    """Node of the last job."""
    node_id: str = ""
    turn_id: str = ""
    used_at: float = 0.0
    held_until: float = 0.0
    """Until then the node may keep audio back that belongs to what follows."""
    base: int = 1
    """Lowest attempt number in use; those below are behind us."""
    turn_number: int = 1
    """Attempt number of the last slice of the turn, which the next one shares."""
    segment: int = 0
    highest: dict[int, int] = field(default_factory=dict)
    """Highest utterance index sent under each attempt number in use, that is in each wire session."""
    seen: dict[tuple[int, int], int] = field(default_factory=dict)
    """Highest utterance index that each of the last nodes saw of a wire session: by row and number."""
    served: dict[int, float] = field(default_factory=dict)
    """When each of the last nodes got a job, the latest last."""

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

    def wire_session(self, number: int) -> str:
        """What nodes are told is the session, for this attempt number."""
        segment = f"~s{self.segment}" if self.segment else ""
        return f"{self.name}{segment}~r{number}" if number > 1 else self.name + segment

    def would_miss(self, row: int, index: int, number: int) -> bool:
        """Whether the node of a row knows this wire session and has not seen all before this utterance.

        A real node may then let the utterance wait for half a minute (node-protocol 0.3).
        """
        if (row, number) == (self.row, self.turn_number):
            return False
        return self.seen.get((row, number), index) < index - 1

    def begin_segment(self) -> None:
        """Go on under a name that no node knows yet."""
        self.segment += 1
        self.base = self.turn_number = 1
        self.highest.clear()
        self.seen.clear()

    def leave(self, row: int) -> None:
        """What was sent to a row did not arrive: no node is bound any more, or knows what comes next."""
        if row == self.row:
            self.row, self.turn_id, self.held_until = -1, "", 0.0
        self.begin_segment()

    def recent(self, since: float) -> list[int]:
        """Rows that got a job since then, the latest first."""
        return [row for row, at in reversed(self.served.items()) if at >= since]

    def sent(self, index: int, number: int, row: int, now: float) -> None:
        """An utterance went to the node of this row as attempt `number`."""
        self.highest[number] = max(self.highest.get(number, -1), index)
        while len(self.highest) > MAX_NUMBERS:
            del self.highest[min(self.highest)]
            self.base = min(self.highest)
        self.seen[row, number] = max(self.seen.get((row, number), -1), index)
        self.served.pop(row, None)
        self.served[row] = now
        while len(self.served) > MAX_RECENT:
            oldest = next(iter(self.served))
            del self.served[oldest]
            self.seen = {wire: highest for wire, highest in self.seen.items() if wire[0] != oldest}
        while len(self.seen) > MAX_SEEN:
            del self.seen[next(iter(self.seen))]

    def follow(self, turn_id: str, attempt: Attempt, now: float, *, may_keep: bool) -> None:
        """What comes next follows this attempt; its node may keep the audio back for it."""
        self.row, self.node_id = attempt.row, attempt.node_id
        self.turn_id, self.turn_number, self.used_at = turn_id, attempt.number, now
        self.held_until = now + KEPT_S if may_keep else 0.0
