"""Who takes part in the run of a seed, drawn from its chance."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from .client import ClientSpec
from .node import Faults, NodeSpec

TALK_S = 60.0
"""How long clients talk."""

PAIRS = (("en", "es"), ("zh", "en"), ("es", "zh"))


@dataclass(frozen=True)
class Story:
    """The cast of a run; a calm one has no faults, so nothing that was said may be lost."""

    calm: bool
    nodes: tuple[NodeSpec, ...]
    clients: tuple[ClientSpec, ...]


def draw(random: Random) -> Story:
    """The story of a seed; add new kinds of trouble here, each with a switch in the specs."""
    calm = random.random() < 0.25
    nodes = [_node(random, number, calm) for number in range(random.randint(1, 5))]
    clients = [_client(random, calm) for _ in range(random.randint(1, 5))]
    return Story(calm, tuple(nodes), tuple(clients))


def _node(random: Random, number: int, calm: bool) -> NodeSpec:
    generation = random.choice(["090d", "baaf", "head", "head"])
    name = f"n{number}"
    if calm:
        return NodeSpec(
            name, ("en", "es", "zh"), generation, cap=random.randint(4, 8), speed=random.uniform(0.05, 0.3)
        )
    return NodeSpec(
        name,
        codes=random.choice([("en", "es", "zh"), ("en", "es"), ("zh", "en", "es"), ("es", "zh")]),
        generation=generation,
        cap=random.randint(1, 4),
        speed=random.choice([0.1, 0.3, 0.9, 2.0]),
        faults=_faults(random),
    )


def _faults(random: Random) -> Faults:
    """One node in four is sound, the others have some faults at once."""

    def maybe(value: float) -> float:
        return value if random.random() < 0.3 else 0.0

    if random.random() < 0.25:
        return Faults()
    return Faults(
        mute=maybe(0.2),
        late=maybe(0.2),
        twice=maybe(0.5),
        error=maybe(0.3),
        foreign=maybe(0.2),
        dies_every_s=maybe(20.0),
        restarts_every_s=maybe(40.0),
        hangs_every_s=maybe(60.0),
        ails_every_s=maybe(40.0),
    )


def _client(random: Random, calm: bool) -> ClientSpec:
    src, tgt = random.choice(PAIRS)
    return ClientSpec(
        src,
        tgt,
        streams=random.random() < 0.6,
        two_way=random.random() < 0.3,
        talks_s=random.uniform(10.0, TALK_S),
        longest_s=random.choice([3.0, 12.0, 25.0]) if calm else random.choice([3.0, 12.0, 40.0]),
        ending=random.choice(["stays", "stays", "stays", "closes", "drops"]),
    )
