"""A fleet and its load in the words of an operator, made into nodes and arrivals of the model."""

from __future__ import annotations

import random
from collections.abc import Iterator
from heapq import heapify, heapreplace
from itertools import accumulate

from msgspec import Struct

from linguad.planning.model import Arrival, Node

SMALLEST = 0.05
"""Part of the average below which nothing is drawn: a node so slow would not be kept, and 0 has no use."""

STORED = 1 << 14
"""Random numbers that are drawn beforehand; so many are as good as new ones."""


class Fleet(Struct, frozen=True, kw_only=True):
    """Nodes that are alike but for their speed and the pairs of languages they serve."""

    nodes: int
    slots: int = 4
    speed: float = 4.0
    """Average, in audio seconds per second of work."""
    speed_spread: float = 0.3
    """Standard deviation of the speeds, as a part of the average (a gamma distribution)."""
    pairs: int = 1
    pairs_per_node: int = 1
    popularity: float = 1.0
    """The n-th pair is asked for 1/n**popularity times as often as the first, and installed so."""

    def make(self, seed: int) -> list[Node]:
        """The nodes; every pair is served by somebody if there is room for it."""
        chance = random.Random(f"{seed} nodes")
        weights = popularity(self.pairs, self.popularity)
        speeds = drawn(chance, self.speed, self.speed_spread, self.nodes)
        return [
            Node(
                f"node-{number}",
                self.slots,
                speeds[number],
                self._pairs_of(number, weights, chance),
            )
            for number in range(self.nodes)
        ]

    def _pairs_of(self, number: int, weights: list[float], chance: random.Random) -> tuple[int, ...]:
        """Those of one node: one in turn, so that each is served, the others as they are asked for."""
        if self.pairs_per_node >= self.pairs:
            return tuple(range(self.pairs))
        first = number * self.pairs_per_node % self.pairs
        must = {(first + i) % self.pairs for i in range(self.pairs_per_node)}
        if number * self.pairs_per_node < self.pairs:
            return tuple(sorted(must))
        ranked = sorted(range(self.pairs), key=lambda pair: chance.expovariate(weights[pair]))
        return tuple(sorted(ranked[: self.pairs_per_node]))


class Load(Struct, frozen=True, kw_only=True):
    """People who speak an utterance, pause, and speak again, without waiting for the translation."""

    sessions: int
    talking: float = 0.3
    """Part of the time that a session speaks; 1 never pauses."""
    utterance_s: float = 4.0
    """Average length."""
    utterance_spread: float = 0.5
    """Standard deviation of the lengths, as a part of the average (a gamma distribution)."""
    effort_spread: float = 0.3
    """The same for the work on utterances of one length."""
    targets: int = 1
    """Languages that each utterance is translated into; each is a job."""
    pairs: int = 1
    popularity: float = 1.0

    @property
    def jobs_per_s(self) -> float:
        """Jobs that all sessions together make."""
        return self.sessions * self.talking / self.utterance_s * self.targets

    @property
    def audio_per_s(self) -> float:
        """Audio seconds of these jobs per second: what the nodes have to work off."""
        return self.jobs_per_s * self.utterance_s

    def arrivals(self, seed: int, until_s: float) -> Iterator[Arrival]:
        """Jobs in order of time; an utterance becomes a job when it ends."""
        chance = random.Random(f"{seed} sessions")
        pause_s = self.utterance_s * (1 - self.talking) / self.talking
        edges = list(accumulate(popularity(self.pairs, self.popularity)))
        names = [f"s-{number}" for number in range(self.sessions)]
        pairs = chance.choices(range(self.pairs), cum_weights=edges, k=self.sessions)
        # everybody is somewhere in an utterance and the pause after it
        cycle_s = self.utterance_s + pause_s
        lengths = drawn(chance, self.utterance_s, self.utterance_spread, STORED)
        efforts = drawn(chance, 1.0, self.effort_spread, STORED)
        dice = chance.random
        ends = [(dice() * cycle_s, number, lengths[int(dice() * STORED)]) for number in range(self.sessions)]
        heapify(ends)
        while ends and ends[0][0] < until_s:
            at, number, audio_s = ends[0]
            for target in range(self.targets):
                name = names[number] if target == 0 else f"{names[number]}#{target}"
                yield Arrival(
                    at, name, audio_s, (pairs[number] + target) % self.pairs, efforts[int(dice() * STORED)]
                )
            pause = chance.expovariate(1 / pause_s) if pause_s > 0 else 0.0
            following = lengths[int(dice() * STORED)]
            heapreplace(ends, (at + pause + following, number, following))


def popularity(pairs: int, exponent: float) -> list[float]:
    """How often each pair is asked for; together 1."""
    weights = [(rank + 1) ** -exponent for rank in range(pairs)]
    whole = sum(weights)
    return [weight / whole for weight in weights]


def drawn(chance: random.Random, mean: float, part: float, count: int) -> list[float]:
    """Random numbers above 0 with exactly this mean: gamma, the standard deviation being `part` of it."""
    if part == 0:
        return [mean] * count
    numbers = [max(SMALLEST, chance.gammavariate(part**-2, part**2)) for _ in range(count)]
    factor = mean * count / sum(numbers)
    return [number * factor for number in numbers]
