"""How fast each node works, learned from its answers (resolutions 24 and 31).

Speed is audio seconds per second of processing, per node and index key, as a moving average. A node that has
not answered yet counts as fast as the median of those that have. The response times of the last answers tell
how long a deadline has to be.
"""

from __future__ import annotations

from collections import deque
from statistics import median

from msgspec import Struct, field

from linguad.core.node import Key

WEIGHT = 0.2
"""Weight of the newest answer in the moving average."""

UNKNOWN_SPEED = 1.0
"""Speed of a node nothing is known of, when nothing is known of the others either: as fast as speech."""

REMEMBERED_ANSWERS = 64
"""Response times kept per node and key."""

ENOUGH_ANSWERS = 20
"""From so many answers on their 95th percentile says something."""

MIN_DEADLINE_S = 15.0
DEADLINE_FACTOR = 3.0
DEADLINE_SLACK_S = 5.0
"""A learned deadline is 3 times the 95th percentile and 5 s, never below 15 s."""


class Experience(Struct):
    """What is known of one node for one key."""

    speed: float
    """Audio seconds per second."""
    answers: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED_ANSWERS))
    """Response times of the last answers, s."""


class Speeds:
    """Mutable state: the experience with every node, by key."""

    def __init__(self) -> None:
        self._known: dict[Key, dict[str, Experience]] = {}

    def learn(self, node_id: str, key: Key, audio_s: float, processing_s: float, response_s: float) -> float:
        """A node answered; returns its speed from now on. Times of zero teach nothing about speed."""
        nodes = self._known.setdefault(key, {})
        known = nodes.get(node_id)
        measured = audio_s / processing_s if processing_s > 0 and audio_s > 0 else None
        if known is None:
            known = nodes[node_id] = Experience(self.of(node_id, key) if measured is None else measured)
        elif measured is not None:
            known.speed += WEIGHT * (measured - known.speed)
        known.answers.append(response_s)
        return known.speed

    def of(self, node_id: str, key: Key) -> float:
        """The speed a node is taken to have for a key."""
        nodes = self._known.get(key)
        if not nodes:
            return UNKNOWN_SPEED
        known = nodes.get(node_id)
        return known.speed if known is not None else median(one.speed for one in nodes.values())

    def deadline_s(self, node_id: str, key: Key) -> float | None:
        """How long a job may run on this node going by its past answers; None while too little is known."""
        known = self._known.get(key, {}).get(node_id)
        if known is None or len(known.answers) < ENOUGH_ANSWERS:
            return None
        ordered = sorted(known.answers)
        p95 = ordered[int(0.95 * (len(ordered) - 1))]
        return max(MIN_DEADLINE_S, DEADLINE_FACTOR * p95 + DEADLINE_SLACK_S)

    def forget(self, node_id: str) -> None:
        """The node is gone for good."""
        for key in list(self._known):
            nodes = self._known[key]
            nodes.pop(node_id, None)
            if not nodes:
                del self._known[key]

    def table(self, node_id: str) -> dict[Key, float]:
        """Learned speeds of a node, for its page."""
        return {key: nodes[node_id].speed for key, nodes in self._known.items() if node_id in nodes}
