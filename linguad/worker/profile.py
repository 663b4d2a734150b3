"""The profile of a simulated fleet: a TOML file with the kinds of nodes there are (docs/testing.md)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from linguad.config.reading import parsed
from linguad.errors import ConfigError
from linguad.wire.language import normalize
from linguad.worker.engines.base import Pair

Part = Annotated[float, Meta(ge=0, le=1)]
"""A part of all."""
Few = Annotated[list[str], Meta(max_length=100)]

SLOWEST = 0.05
"""Part of its kind's speed below which no node is."""

_PAIR = re.compile(r"([^>\s]+)>([^>\s]+)")


class Nodes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of nodes, `[[nodes]]` in the file."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
    """Part of the ids of its nodes."""
    share: Annotated[float, Meta(gt=0)] = 1.0
    """How many there are, compared with the shares of the other kinds."""
    languages: Few = []
    """Each is translated into each other one."""
    pairs: Few = []
    """Instead of `languages`: only these, as `en>es`."""
    gpus: Few = []
    """What its GPUs are called; without any its services run on the CPU."""
    slots: Annotated[int, Meta(ge=1, le=64)] = 4
    """Jobs that a node works on at once."""
    speed: Annotated[float, Meta(gt=0)] = 4.0
    """Average of all nodes, audio seconds per second of work on one job."""
    speed_spread: Annotated[float, Meta(ge=0, le=2)] = 0.3
    """Standard deviation of the speeds, as a part of the average (a gamma distribution)."""
    failing: Part = 0.0
    """Part of the jobs that end with an error."""
    empty: Part = 0.0
    """Part of the jobs in which nothing is heard."""
    silent: Part = 0.0
    """Part of the jobs that are never answered."""
    lost_after_s: Annotated[float, Meta(ge=0)] = 0.0
    """Average time until a node loses its connection, s; it comes back by itself. 0 never loses one."""

    def served(self) -> list[Pair]:
        """The pairs of languages, sorted."""
        if not self.pairs:
            return sorted(permutations(sorted({normalize(code) for code in self.languages}), 2))
        found = (_PAIR.fullmatch(pair) for pair in self.pairs)
        return sorted({(normalize(pair[1]), normalize(pair[2])) for pair in found if pair})


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    seed: int = 1
    """Of all chance: the same seed, the same nodes."""
    nodes: Annotated[list[Nodes], Meta(min_length=1, max_length=1000)]

    def fleet(self, count: int) -> Iterator[tuple[Nodes, int, float]]:
        """So many nodes: the kind of each, its number within it, and its speed."""
        whole, made = sum(kind.share for kind in self.nodes), Counter[str]()
        for number in range(1, count + 1):
            kind = max(self.nodes, key=lambda kind: kind.share / whole * number - made[kind.name])
            made[kind.name] += 1
            yield kind, made[kind.name], self._speed(kind, made[kind.name])

    def chance(self, name: str) -> Random:
        """The chance of one node."""
        return Random(f"{self.seed} {name}")

    def _speed(self, kind: Nodes, number: int) -> float:
        if not kind.speed_spread:
            return kind.speed
        shape = kind.speed_spread**-2
        factor = self.chance(f"speed of {kind.name} {number}").gammavariate(shape, 1 / shape)
        return kind.speed * max(SLOWEST, factor)


USUAL = Profile(nodes=[Nodes(name="usual", languages=["en", "es"], gpus=["simulated"])])
"""Without a file."""


def read(path: Path) -> Profile:
    """The profile in a file. Raises ConfigError with what is wrong."""
    try:
        profile = msgspec.convert(parsed(path), Profile)
    except msgspec.ValidationError as error:
        raise ConfigError([(str(path), str(error))]) from error
    problems = [(str(path), problem) for problem in _problems(profile)]
    if problems:
        raise ConfigError(problems)
    return profile


def _problems(profile: Profile) -> Iterator[str]:
    for name, times in Counter(kind.name for kind in profile.nodes).items():
        if times > 1:
            yield f"{times} kinds of nodes are called {name}; each needs a name of its own"
    for kind in profile.nodes:
        if bool(kind.pairs) == bool(kind.languages):
            yield f"{kind.name}: give either languages or pairs"
        elif wrong := [pair for pair in kind.pairs if not _PAIR.fullmatch(pair)]:
            yield f"{kind.name}: {wrong[0]!r} is not a pair like en>es"
        elif not kind.served():
            yield f"{kind.name}: one language alone is no pair; give two or more"
        if kind.failing + kind.empty + kind.silent > 1:
            yield f"{kind.name}: failing, empty and silent are more than 1 together"
