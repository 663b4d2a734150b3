"""What a failed job means for its node: it counts against it, and what the node lacks is marked."""

from __future__ import annotations

from linguad.core.actions import Action, Forgiven, ServiceMissing
from linguad.core.amnesty import Amnesty
from linguad.core.failure import judge, missing_service, why_missing
from linguad.core.fleet import Fleet
from linguad.wire.node import JobError


class Blame:
    """Has no state of its own. Of a node of another instance its owner hears all, and judges."""

    def __init__(self, fleet: Fleet, amnesty: Amnesty) -> None:
        self._fleet = fleet
        self._amnesty = amnesty

    def failed(self, row: int, sent_at: float, now: float, *, guilty: bool) -> list[Action]:
        """A job of the node of a row failed; if `guilty` that counts, unless it may be our own doing."""
        node = self._fleet.node_at(row)
        forgiven = self._amnesty.why(now) if guilty and node.afar is None else None
        blame = guilty and forgiven is None
        self._fleet.job_ended(row, now, usable=False, blame=blame, sent_at=sent_at)
        return [] if forgiven is None else [Forgiven(node.id, forgiven)]

    def erred(self, row: int, error: JobError | None, sent_at: float, now: float) -> list[Action]:
        """The node of a row answered a job with an error."""
        node, actions = self._fleet.node_at(row), list[Action]()
        if node.afar is None and (service := missing_service(error)) is not None:
            actions += self.lacks(node.id, service, why_missing(error), now)
        return actions + self.failed(row, sent_at, now, guilty=judge(error).blame)

    def lacks(self, node_id: str, service_id: str, reason: str, now: float) -> list[Action]:
        """A registered node lacks a service it reports, whatever the job (node-protocol 7)."""
        if (row := self._fleet.row_of(node_id)) is None:
            return []
        mark = self._fleet.mark_unavailable(row, service_id, now)
        return [ServiceMissing(node_id, service_id, mark, reason)]
