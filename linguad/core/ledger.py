"""What a ledger says (gateway 11.7): whole seconds, positive for what an account gets."""

from __future__ import annotations

from msgspec import Struct

SETTLEMENT = "session_settlement"
"""What a session cost, once, rounded up to seconds."""

TRANSFER = "transfer"
"""From the account of an owner of nodes to a tenant."""

BY_HAND = ("credit", "adjustment", "refund")
"""Reasons of changes that operators make."""


class Line(Struct, frozen=True, kw_only=True):
    """One line of the ledger; it never changes."""

    ledger_id: int
    account: str
    """A tenant by its id, or the owner of nodes as `node:OWNER`."""
    session_id: str | None
    change_seconds: int
    balance_before: int
    balance_after: int
    reason: str
    actor_type: str
    actor_id: str
    request_id: str
    """What asked for it; the same one again changes nothing."""
    created_at: float
    """Unix s."""


class NodeAccount(Struct, frozen=True, kw_only=True):
    """What the owner of nodes has earned."""

    owner: str
    credited_seconds: int
    transferred_seconds: int

    @property
    def balance_seconds(self) -> int:
        """What can still be given to a tenant."""
        return self.credited_seconds - self.transferred_seconds


Counts = dict[str, int]
"""Sums of usage by name; a name that is missing stands for 0."""

Step = tuple[str, int, Counts]
"""Id of a key, first hour of a step (hours since 1970), and what was used in it."""
