"""Jobs of other instances on the nodes whose sockets are here (design 7).

Rules:
- A guest holds one slot of its node from the moment it is taken, given back once, in `_give_back` alone, in
  the same table as the slots of our own attempts: the owner of a node arbitrates.
- What the node says of a guest goes to its asker, also after its end, when the asker may still take it.
- After a guest was refused or lost the later ones of its wire session are refused too: a node would wait for
  what it did not get, or answer a turn without it.
"""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from linguad.core.actions import Action, Freed, Hand, Tell
from linguad.core.amnesty import Amnesty
from linguad.core.blame import Blame
from linguad.core.deadlines import Deadlines, earliest
from linguad.core.fleet import Fleet
from linguad.core.health import Status
from linguad.core.job import ResultClass, classify
from linguad.core.placement import TURN_OVERFLOW_SLOTS
from linguad.core.rules import JobRules
from linguad.wire.letters_jobs import (
    JobAssigned,
    JobCalledOff,
    JobRefused,
    JobsLost,
    JobsOpen,
    NodeSaid,
)
from linguad.wire.node import JobAck, JobCancel, JobResult, JobStarted, NodeAsrPartial

TIMED_OUT = "job_timeout"
"""The reason of a call-off that may be the node's fault."""


class Guest(Struct, eq=False):
    """One attempt of another instance; mutable: whether it is open, and whether it holds a slot."""

    asker: str
    asked: JobAssigned
    row: int
    sent_at: float
    open: bool = True
    holds_slot: bool = True


class Guests:
    """Mutable state: the guests by the name the node knows, and those of each node."""

    def __init__(self, fleet: Fleet, rules: JobRules, amnesty: Amnesty) -> None:
        self._fleet = fleet
        self._rules = rules
        self._amnesty = amnesty
        self._blame = Blame(fleet, amnesty)
        self._guests: dict[str, Guest] = {}
        self._on_node: dict[str, dict[str, Guest]] = {}
        self._ends: Deadlines[str] = Deadlines()
        """When a guest is given up, and after that, when it is forgotten."""
        self._releases: Deadlines[str] = Deadlines()
        self._refused: Deadlines[tuple[str, str]] = Deadlines()
        """Node and wire session of what was refused."""

    def change_rules(self, rules: JobRules) -> None:
        """Live by other rules from now on; what was decided for a guest stays."""
        self._rules = rules

    def __len__(self) -> int:
        """Open guests."""
        return sum(map(len, self._on_node.values()))

    def __contains__(self, wire_job_id: str) -> bool:
        return wire_job_id in self._guests

    def is_here(self, node_id: str) -> bool:
        """Whether we have the socket of a node."""
        node = self._fleet.nodes.get(node_id)
        return node is not None and node.is_here

    def slots(self, node_id: str) -> Counter[str]:
        """Slots of a node that guests hold, by asker."""
        return Counter(guest.asker for guest in self._on_node.get(node_id, {}).values() if guest.holds_slot)

    def assigned(self, asker: str, asked: JobAssigned, frame: str, now: float) -> list[Action]:
        """An instance wants a job done: the node gets the frame, or the asker a refusal."""
        if asked.job in self._guests:
            return []  # the letter came twice
        why = self._refusal(asked)
        if why:
            self._refused.set((asked.node, asked.session), now + asked.within_s)
            return [Tell(asker, JobRefused(node=asked.node, job=asked.job, why=why))]
        row = self._fleet.row_of(asked.node)
        assert row is not None, "a node without a record is refused"
        guest = Guest(asker, asked, row, now)
        self._guests[asked.job] = guest
        self._on_node.setdefault(asked.node, {})[asked.job] = guest
        self._ends.set(asked.job, now + asked.within_s)
        if asked.deferrable:
            self._releases.set(asked.job, now + self._rules.deferred_release_s)
        return [Hand(asked.node, frame)]

    def called_off(self, asker: str, letter: JobCalledOff, now: float) -> list[Action]:
        """The asker wants no answer any more."""
        guest = self._guests.get(letter.job)
        if guest is None or not guest.open or guest.asker != asker:
            return []
        actions: list[Action] = []
        if letter.reason == TIMED_OUT and self._silent_since(guest):
            actions += self._blame.failed(guest.row, guest.sent_at, now, guilty=True)
        return actions + self._give_up(guest, letter.reason, now)

    def checked(self, asker: str, letter: JobsOpen, now: float) -> list[Action]:
        """The asker tells what it still waits for: all else ends, and it learns what is not here."""
        actions: list[Action] = []
        waited_for = set(letter.jobs)
        for name, guest in list(self._guests.items()):
            if guest.open and guest.asker == asker and name not in waited_for:
                actions += self._give_up(guest, "superseded", now)
        for name in letter.jobs:
            known = self._guests.get(name)
            if known is None or not known.open:
                node_id = "" if known is None else known.asked.node
                actions.append(Tell(asker, JobRefused(node=node_id, job=name, why="unknown")))
        return actions

    def said(
        self, message: JobResult | JobAck | JobStarted | NodeAsrPartial, node_id: str, frame: str, now: float
    ) -> list[Action]:
        """A node said something about a guest it was given; `frame` is how."""
        guest = self._guests[message.job_id]
        if guest.asked.node != node_id:
            return []
        actions: list[Action] = [Tell(guest.asker, NodeSaid(node=node_id, job=message.job_id), frame)]
        if isinstance(message, JobResult):
            self._fleet.heard_from(node_id, now)
            if guest.open:
                self._answered(guest, message, now, actions)
        return actions

    def node_lost(self, node_id: str, now: float) -> list[Action]:
        """The socket of a node is gone, unless it has another one by now."""
        lost = self._on_node.get(node_id)
        if not lost or self.is_here(node_id):
            return []
        actions: list[Action] = []
        jobs: dict[str, list[str]] = {}
        for guest in list(lost.values()):
            jobs.setdefault(guest.asker, []).append(guest.asked.job)
            self._end(guest, now, actions)
        return actions + [Tell(asker, JobsLost(node=node_id, jobs=names)) for asker, names in jobs.items()]

    def out_of_touch(self, asker: str, now: float) -> list[Action]:
        """This instance is gone, or may have missed an answer: it gets none any more, and asks anew.

        Another answer would be worse than none: it could be taken for that of what was said before it, too.
        """
        actions: list[Action] = []
        for name, guest in list(self._guests.items()):
            if guest.asker == asker:
                if guest.open:
                    actions += self._give_up(guest, "session_closed", now)
                del self._guests[name]
                self._ends.set(name, None)
        return actions

    def askers(self) -> set[str]:
        """Instances that something is remembered of."""
        return {guest.asker for guest in self._guests.values()}

    def due(self) -> float | None:
        """When `tick` has something to do, monotonic s."""
        return earliest(self._ends.due(), earliest(self._releases.due(), self._refused.due()))

    def tick(self, now: float) -> list[Action]:
        """Give up guests whose asker does by now, and forget those that nobody takes an answer of."""
        actions: list[Action] = []
        while (name := self._releases.pop(now)) is not None:
            self._give_back(self._guests[name], actions)
        while (name := self._ends.pop(now)) is not None:
            if (guest := self._guests[name]).open:
                actions += self._give_up(guest, TIMED_OUT, now)
            else:
                del self._guests[name]
        while self._refused.pop(now) is not None:
            pass
        return actions

    def _refusal(self, asked: JobAssigned) -> str:
        """Why a guest cannot be had, in a word; "" if it took its slot."""
        node, row = self._fleet.nodes.get(asked.node), self._fleet.row_of(asked.node)
        if self._amnesty.draining:
            return "draining"
        if node is None or row is None or not self.is_here(asked.node):
            return "not_here"
        if (asked.node, asked.session) in self._refused:
            return "follows_refused"
        if asked.after and asked.after not in self._guests:
            return "misses_earlier"
        if node.status is not Status.READY:
            return "not_ready"
        extra = TURN_OVERFLOW_SLOTS if asked.in_turn else 0
        return "" if self._fleet.table.take(row, asked.seconds, extra) else "full"

    def _answered(self, guest: Guest, message: JobResult, now: float, actions: list[Action]) -> None:
        kind = classify(message, deferrable=guest.asked.deferrable)
        if kind is ResultClass.PARTIAL_TURN:
            self._give_back(guest, actions)
            return
        if kind is ResultClass.FAILED:
            actions += self._blame.erred(guest.row, message.error, guest.sent_at, now)
        else:
            usable = kind in (ResultClass.COMPLETE, ResultClass.EMPTY)
            self._fleet.job_ended(guest.row, now, usable=usable, blame=False, sent_at=guest.sent_at)
        self._end(guest, now, actions)

    def _silent_since(self, guest: Guest) -> bool:
        """Whether the node answered nobody since it got the guest, so that it is to blame (resolution 29)."""
        node = self._fleet.nodes.get(guest.asked.node)
        return node is not None and node.last_answer_at <= guest.sent_at

    def _give_up(self, guest: Guest, reason: str, now: float) -> list[Action]:
        actions: list[Action] = []
        if self._rules.send_cancel:
            cancel = JobCancel(job_id=guest.asked.job, trace_id=guest.asked.trace, reason=reason)
            actions.append(Hand(guest.asked.node, cancel))
        self._end(guest, now, actions)
        return actions

    def _end(self, guest: Guest, now: float, actions: list[Action]) -> None:
        """It gets no answer in the ordinary way; a late one is passed on for a while."""
        guest.open = False
        held = self._on_node[guest.asked.node]
        del held[guest.asked.job]
        if not held:
            del self._on_node[guest.asked.node]
        self._give_back(guest, actions)
        latest = guest.sent_at + guest.asked.within_s
        self._ends.set(guest.asked.job, max(now, latest) + self._rules.late_result_s)

    def _give_back(self, guest: Guest, actions: list[Action]) -> None:
        if guest.holds_slot:
            guest.holds_slot = False
            self._releases.set(guest.asked.job, None)
            self._fleet.table.release(guest.row, guest.asked.seconds)
            actions.append(Freed(guest.asked.node))
