"""Whether a node may work, judged by its heartbeats and by what came of its jobs (node-protocol 3.4).

    REGISTERING --healthy--> READY --failing--> DEGRADED --healthy, quarantine over--> READY

A node that its jobs made degraded comes back on probation: one job at a time, until one brought an answer.
A job that fails then puts the node in quarantine, each time twice as long as before.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from linguad.core.rules import NodeRules

MAX_DOUBLINGS = 30
"""More would only make the number too large; the longest quarantine is a setting."""


class Status(Enum):
    """Authority is the scheduler; only READY nodes get work (node-protocol 3.4)."""

    REGISTERING = "registering"
    READY = "ready"
    DEGRADED = "degraded"
    DRAINING = "draining"
    OFFLINE = "offline"


class Health:
    """Mutable state: the last outcomes of a node, and what its failed jobs brought upon it."""

    def __init__(self, rules: NodeRules) -> None:
        self.state = Status.REGISTERING
        """REGISTERING, READY or DEGRADED; that a node is gone or being drained is no matter of health."""
        self.on_probation = False
        """Its jobs failed before; the next ones come one at a time until one brought an answer."""
        self.failed_probations = 0
        self.quarantined_until = 0.0
        """Before this time, monotonic s, no heartbeat makes it ready."""
        self._rules = rules
        self._probation_since = 0.0
        self._healthy_in_a_row = 0
        self._answers_in_a_row = 0
        self._outcomes: deque[bool] = deque(maxlen=rules.failure_window)

    def change_rules(self, rules: NodeRules) -> None:
        """Judge by other rules from now on; what is known of the node stays."""
        self._rules = rules
        self._outcomes = deque(self._outcomes, maxlen=rules.failure_window)

    def registered(self) -> None:
        """The node has to show its health again; what its jobs brought upon it stays."""
        self.state = Status.REGISTERING
        self._healthy_in_a_row = 0
        self._outcomes.clear()

    def warmed_up_too_long(self) -> None:
        """The node did not become healthy in the time it has after its registration."""
        self.state = Status.DEGRADED

    def heartbeat(self, healthy: bool, now: float) -> None:
        """One more check of what the node reports."""
        self._outcomes.append(healthy)
        self._healthy_in_a_row = self._healthy_in_a_row + 1 if healthy else 0
        if not healthy:
            if self.state is Status.READY and self._failing:
                self.state = Status.DEGRADED
        elif self.state is Status.DEGRADED or (
            self.state is Status.REGISTERING and self._healthy_in_a_row >= self._rules.health_check_count
        ):
            self.state = Status.READY if now >= self.quarantined_until else Status.DEGRADED
            self._probation_since = now
            self._outcomes.clear()

    def job_answered(self) -> None:
        """A job brought a usable answer."""
        if self.state is not Status.READY:
            return
        self.on_probation = False
        self._outcomes.append(True)
        self._answers_in_a_row += 1
        if self._answers_in_a_row >= self._rules.failure_window:
            self.failed_probations = 0

    def job_failed(self, now: float, sent_at: float) -> None:
        """A job that was sent then failed through the node's fault."""
        if self.on_probation and self.state is Status.READY and sent_at < self._probation_since:
            return
        self._answers_in_a_row = 0
        self._outcomes.append(False)
        if self.state is not Status.READY:
            return
        if self.on_probation:
            self.state = Status.DEGRADED
            self.failed_probations += 1
            doubled_s = self._rules.quarantine_s * 2.0 ** min(self.failed_probations - 1, MAX_DOUBLINGS)
            self.quarantined_until = now + min(doubled_s, self._rules.quarantine_max_s)
        elif self._failing:
            self.state = Status.DEGRADED
            self.on_probation = True

    @property
    def _failing(self) -> bool:
        in_a_row = 0
        for ok in reversed(self._outcomes):
            if ok:
                break
            in_a_row += 1
        failures = len(self._outcomes) - sum(self._outcomes)
        return in_a_row >= self._rules.consecutive_failure_count or failures >= self._rules.failure_count
