"""Our jobs on nodes whose sockets other instances hold (design 7).

The owner of a node decides about its slots. What it does not answer is repaired as with any node: by
deadlines, and at once when it tells that the node is lost, or is gone itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from linguad.core.actions import Action
from linguad.core.dispatch import Dispatch
from linguad.core.job import Attempt
from linguad.wire.record import NodeRecord


class Afar:
    """Has no state of its own: what is known of such nodes is in the fleet, attempts are with the others."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._fleet = dispatch.fleet

    def learned(self, record: NodeRecord, others_use: int, now: float) -> list[Action]:
        """Another instance told of a node of its own, of which so many slots are used by others than us."""
        node = self._fleet.learn(record, others_use, now)
        return [] if node is None else self._dispatch.offers_changed(node, now)

    def in_reach(self, reachable: bool, now: float) -> list[Action]:
        """Whether other instances can be asked at all; while not, their nodes get no jobs."""
        actions: list[Action] = []
        for node in self._fleet.in_reach(reachable):
            actions += self._dispatch.offers_changed(node, now, known=True)
        return actions

    def refused(self, owner: str, wire_job_id: str, now: float) -> list[Action]:
        """The owner did not give an attempt to its node, which gets no more for a while."""
        actions: list[Action] = []
        for job, attempt in self._dispatch.attempts.open_among(owner, (wire_job_id,)):
            self._fleet.refused(attempt.row, now)
            actions += self._dispatch.choose_again(job, attempt, now)
        return actions

    def lost(self, owner: str, wire_job_ids: Iterable[str], now: float) -> list[Action]:
        """The owner lost the socket of a node, and with it these attempts; its record will say so soon."""
        held = self._dispatch.attempts.open_among(owner, wire_job_ids)
        for _, attempt in held:
            self._fleet.refused(attempt.row, now)
        return self._dispatch.lost(held, now)

    def owner_gone(self, owner: str, now: float) -> list[Action]:
        """Another instance is gone, with the sockets of all its nodes."""
        attempts = self._dispatch.attempts
        held = {attempt.wire_job_id: (job, attempt) for job, attempt in attempts.open_of(owner)}
        for node in self._fleet.of_owner(owner):
            held |= {attempt.wire_job_id: (job, attempt) for job, attempt in attempts.open_on(node.id)}
            self._fleet.lost(node.id, node.connection)
        return self._dispatch.lost(list(held.values()), now)

    def out_of_touch(self, owner: str, now: float) -> list[Action]:
        """Answers of this owner may be lost: what waits for one goes elsewhere."""
        return self._dispatch.lost(self._dispatch.attempts.open_of(owner), now)

    def before(self, attempt: Attempt) -> str:
        """The latest of what the node of an attempt has of its wire session from before; "" if nothing."""
        name, session = "", attempt.wire_session_id
        for _, other in self._dispatch.attempts.open_on(attempt.node_id):
            if other is attempt:
                break
            if other.wire_session_id == session:
                name = other.wire_job_id
        return name

    def open(self, owner: str) -> list[str]:
        """The names of the attempts that wait for an answer through another instance."""
        return [attempt.wire_job_id for _, attempt in self._dispatch.attempts.open_of(owner)]

    def owners(self) -> set[str]:
        """Instances through which attempts wait for an answer."""
        return self._dispatch.attempts.owners()
