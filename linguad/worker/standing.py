"""What a node's owner is told of how the scheduler sees it: plain sentences, each when there is news."""

from __future__ import annotations

from collections import Counter
from math import inf

from linguad.wire.node import HeartbeatAck

PASSED_OVER_SECONDS = 600.0
"""At most so often the owner hears of jobs that passed the node over; a busy fleet refuses many a minute."""

_BECAUSE = {
    "offline": "it was not connected",
    "status_not_ready": "it was not ready",
    "not_in_public_pool": "it takes no jobs of the public",
    "gpu_unavailable": "it has no GPU",
    "model_not_available": "a service they need does not run here",
    "capacity_exceeded": "all its slots were taken",
    "resource_threshold_exceeded": "its machine was overloaded",
    "lang_pair_unsupported": "it does not translate between their languages",
    "asr_lang_unsupported": "it does not understand their language",
    "tts_lang_unsupported": "it does not speak their language",
    "src_auto_no_candidate": "it needs to be told what language is spoken",
}


class Told:
    """Mutable state: what the owner knows already."""

    def __init__(self) -> None:
        self._standing: tuple[str, str | None] | None = None
        self._counts: Counter[str] = Counter()
        self._passed_over: Counter[str] = Counter()
        self._passed_over_at = -inf

    def disconnected(self) -> None:
        """The scheduler is gone; whatever it says next is news."""
        self._standing = None

    def standing(self, ack: HeartbeatAck) -> str | None:
        """Whether the node gets work and, if not, the cure; None unless status or reason changed."""
        standing = ack.status, ack.reason
        if standing == self._standing:
            return None
        self._standing = standing
        if ack.reason is None:
            return f"the server says that this node is {ack.status}"
        return f"this node gets no work ({ack.status}): {ack.message or ack.reason}"

    def passed_over(self, ack: HeartbeatAck, now: float) -> str | None:
        """How often jobs passed the node over since the owner heard of it; `now` is monotonic, s."""
        counts = Counter(ack.no_work or {})
        self._passed_over += counts - self._counts
        self._counts = counts
        if not self._passed_over or now - self._passed_over_at < PASSED_OVER_SECONDS:
            return None
        times = self._passed_over.total()
        reasons = [
            f"{count} x because {_BECAUSE.get(label, label)}"
            for label, count in self._passed_over.most_common()
        ]
        self._passed_over, self._passed_over_at = Counter(), now
        return f"jobs that found no node at all passed this one over {times} x: {', '.join(reasons)}"
