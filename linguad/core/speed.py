"""How fast each node works, learned from its answers (resolutions 24 and 31).

Speed is audio seconds per second of processing, per node and index key, as a moving average. A node that has
not answered yet counts as fast as the median of those that have. The response times of the last answers tell
how long a deadline has to be.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from statistics import median

from msgspec import Struct, field

from linguad.core.key import Key
from linguad.core.services import Services
from linguad.wire.common import ServiceTimings

WEIGHT = 0.2
"""Weight of the newest answer in the moving average."""

UNKNOWN_SPEED = 1.0
"""Speed of a node nothing is known of, when nothing is known of the others either: as fast as speech."""

SLOWEST, FASTEST = 1e-3, 1e3
"""Speeds that are believed; what a node says of its times has no bounds of its own."""

REMEMBERED_ANSWERS = 64
"""Response times kept per node and key."""

ENOUGH_ANSWERS = 20
"""From so many answers on their 95th percentile says something."""

MIN_DEADLINE_S = 15.0
DEADLINE_FACTOR = 3.0
DEADLINE_SLACK_S = 5.0
"""A learned deadline is 3 times the 95th percentile and 5 s, never below 15 s."""


MAX_STAGES = 1_000
"""Stages remembered of one node; a bound, not a tuning value."""

Stage = tuple[str, str]
"""A stage of the pipeline and what it works on: `asr` a language, `nmt` a pair `en>es`, `tts` a language."""


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
        self._keys: dict[str, dict[Key, None]] = {}
        self._stages: dict[str, dict[Stage, float]] = {}
        self._learned: Counter[Key] = Counter()
        self._medians: dict[Key, tuple[float, int]] = {}

    def learn(self, node_id: str, key: Key, audio_s: float, processing_s: float, response_s: float) -> float:
        """A node answered; returns its speed from now on. Times of zero teach nothing about speed."""
        nodes = self._known.setdefault(key, {})
        known = nodes.get(node_id)
        measured = _believed(audio_s / processing_s) if processing_s > 0 and audio_s > 0 else None
        if known is None:
            known = nodes[node_id] = Experience(self.of(node_id, key) if measured is None else measured)
        elif measured is not None:
            known.speed += WEIGHT * (measured - known.speed)
        known.answers.append(response_s)
        self._learned[key] += 1
        self._used(node_id, key)
        return known.speed

    def learn_stages(self, node_id: str, key: Key, audio_s: float, timings: ServiceTimings) -> None:
        """A node told how long each stage took."""
        stages = self._stages.setdefault(node_id, {})
        took = timings.asr_ms, timings.nmt_ms, timings.tts_ms
        for stage, took_ms in zip(_stages(key), took, strict=True):
            if took_ms and audio_s > 0 and (stage in stages or len(stages) < MAX_STAGES):
                measured = _believed(audio_s * 1000 / took_ms)
                before = stages.get(stage, measured)
                stages[stage] = before + WEIGHT * (measured - before)

    def of(self, node_id: str, key: Key) -> float:
        """The speed a node is taken to have for a key: its own, that of its stages together, the median."""
        nodes = self._known.get(key, {})
        known = nodes.get(node_id)
        if known is not None:
            return known.speed
        if node_id in self._stages and (composed := self._composed(node_id, key)) is not None:
            return composed
        return self._median(key, nodes) if nodes else UNKNOWN_SPEED

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
        self._stages.pop(node_id, None)
        for key in self._keys.pop(node_id, ()):
            nodes = self._known[key]
            del nodes[node_id]
            if not nodes:
                del self._known[key], self._learned[key]
                self._medians.pop(key, None)

    def table(self, node_id: str) -> dict[Key, float]:
        """Learned speeds of a node, the key it answered last at the end."""
        return {key: self._known[key][node_id].speed for key in self._keys.get(node_id, ())}

    def recall(self, node_id: str, speeds: Iterable[tuple[Key, float]]) -> None:
        """Speeds of a node of which nothing is known, as an earlier `table` had them."""
        for key, speed in speeds:
            self._known.setdefault(key, {})[node_id] = Experience(_believed(speed))
            self._learned[key] += 1
            self._used(node_id, key)

    def stages(self, node_id: str) -> dict[Stage, float]:
        """Learned speeds of the stages of a node, for its page."""
        return dict(self._stages.get(node_id, {}))

    def _used(self, node_id: str, key: Key) -> None:
        keys = self._keys.setdefault(node_id, {})
        keys.pop(key, None)
        keys[key] = None

    def _median(self, key: Key, nodes: Mapping[str, Experience]) -> float:
        """The median of a key, worked out anew once an eighth of its nodes may have changed it."""
        learned = self._learned[key]
        known = self._medians.get(key)
        if known is None or learned - known[1] > len(nodes) // 8:
            known = self._medians[key] = median(one.speed for one in nodes.values()), learned
        return known[0]

    def _composed(self, node_id: str, key: Key) -> float | None:
        """The speed of all stages of a key one after another; None if one of them is not known."""
        needed = [
            stage
            for kind, stage in zip((Services.ASR, Services.NMT, Services.TTS), _stages(key), strict=True)
            if key.needs & kind
        ]
        speeds = [self._stages[node_id].get(stage) for stage in needed]
        if not speeds or key.needs & ~(Services.ASR | Services.NMT | Services.TTS):
            return None
        known = [speed for speed in speeds if speed is not None]
        return 1 / sum(1 / speed for speed in known) if len(known) == len(speeds) else None


def _believed(speed: float) -> float:
    return min(max(speed, SLOWEST), FASTEST)


def _stages(key: Key) -> tuple[Stage, Stage, Stage]:
    return ("asr", key.src), ("nmt", f"{key.src}>{key.tgt}"), ("tts", key.tgt)
