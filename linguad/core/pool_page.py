"""The pools as an operator sees them: who is where, and what they serve (pools-and-cluster 3.7)."""

from __future__ import annotations

from collections import Counter
from heapq import nsmallest
from itertools import islice

from msgspec import Struct, field

from linguad.core.coverage import SPEECH
from linguad.core.fleet import Fleet
from linguad.core.health import Status
from linguad.core.key import ANY
from linguad.core.languages import MAX_PAIRS, Pair
from linguad.core.node import Node
from linguad.core.services import CORE_SERVICES, Services
from linguad.core.simulate import WHOLE_FLEET
from linguad.core.steps import Steps, parts

SAMPLE = 5
"""Nodes that are named of each pool, those with the smallest ids."""

MAX_PAIRS_READ = 500_000
"""Language pairs of nodes that are counted for one page, about a second in all; the rest is left out."""


class PoolFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A capability pool; without any the whole fleet is pool 0. The counts name types of service."""

    pool_id: int
    pool_name: str = ""
    pool_required_services: list[str] = []
    total_nodes: int
    online_nodes: int
    ready_nodes: int
    core_services_installed: dict[str, int]
    """Of ready nodes."""
    core_services_ready: dict[str, int]
    sample_node_ids: list[str]


class Shard(Struct, frozen=True):
    """A part of the nodes of a pair that serve the same (decision 5)."""

    id: int
    """Its place in this list."""
    size: int
    class_: int = field(name="class")
    pool: int
    """Its number in the class."""


class PairFacts(Struct, frozen=True, kw_only=True):
    """A pair of languages, speech into speech."""

    src: str
    """`*` stands for any."""
    tgt: str
    kind: str
    """`precise`, or `mixed` for any source."""
    shards: list[Shard]
    online_nodes: int
    ready_nodes: int
    sample_node_ids: list[str]


class Page(Struct, frozen=True, kw_only=True):
    """All of it."""

    pools: list[PoolFacts]
    lang_pools: list[PairFacts]
    more_lang_pools: int
    """Pairs beyond the limit."""
    nodes_not_counted: int
    """Nodes whose languages were left out, because all of them took too long; a filter takes less."""


def page(fleet: Fleet, src: str | None, tgt: str | None, limit: int) -> Steps[Page]:
    """The pools, and of the pairs with these languages at most `limit`, those with most nodes first."""
    named = {pool.id: _Pool() for pool in fleet.rules.pools.pools} or {WHOLE_FLEET: _Pool()}
    pairs: dict[Pair, _Pair] = {}
    left, skipped = MAX_PAIRS_READ, 0
    for some in parts(list(fleet.nodes.values())):
        for node in some:
            number = node.pool if fleet.rules.pools.pools else WHOLE_FLEET
            if number is not None:
                named[number].add(node)
            if not node.fits_but_for_languages(SPEECH):
                continue
            if left <= 0:
                skipped += 1
                continue
            row = fleet.row_of(node.id)
            assert row is not None, "every node has a row"
            place = fleet.table.where(row)[:2]
            served = _pairs_of(node, src, tgt)
            left -= len(served)
            for pair in served:
                pairs.setdefault(pair, _Pair()).add(node, place)
        yield
    shown = nsmallest(limit, pairs.items(), key=lambda one: (-len(one[1].ids), one[0]))
    return Page(
        pools=[
            pool.facts(number, fleet.rules.pools.name(number), fleet.rules.pools.services(number))
            for number, pool in sorted(named.items())
        ],
        lang_pools=[pair.facts(*languages) for languages, pair in shown],
        more_lang_pools=len(pairs) - len(shown),
        nodes_not_counted=skipped,
    )


class _Pool:
    """What is counted of a capability pool."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._online = self._ready = 0
        self._installed: Counter[str] = Counter()
        self._running: Counter[str] = Counter()

    def add(self, node: Node) -> None:
        self._ids.append(node.id)
        self._online += node.online
        if node.status is Status.READY:
            self._ready += 1
            self._installed.update((node.services.installed & CORE_SERVICES).names)
            self._running.update((node.services.running & CORE_SERVICES).names)

    def facts(self, number: int, name: str, services: Services) -> PoolFacts:
        return PoolFacts(
            pool_id=number,
            pool_name=name,
            pool_required_services=services.names,
            total_nodes=len(self._ids),
            online_nodes=self._online,
            ready_nodes=self._ready,
            core_services_installed={kind: self._installed[kind] for kind in CORE_SERVICES.names},
            core_services_ready={kind: self._running[kind] for kind in CORE_SERVICES.names},
            sample_node_ids=nsmallest(SAMPLE, self._ids),
        )


class _Pair:
    """What is counted of a pair of languages."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self._ready = 0
        self._places: Counter[tuple[int, int]] = Counter()

    def add(self, node: Node, place: tuple[int, int]) -> None:
        self.ids.append(node.id)
        self._ready += node.status is Status.READY
        self._places[place] += 1

    def facts(self, src: str, tgt: str) -> PairFacts:
        places = sorted(self._places.items())
        return PairFacts(
            src=src,
            tgt=tgt,
            kind="mixed" if src == ANY else "precise",
            shards=[Shard(number, size, *place) for number, (place, size) in enumerate(places)],
            online_nodes=len(self.ids),
            ready_nodes=self._ready,
            sample_node_ids=nsmallest(SAMPLE, self.ids),
        )


def _pairs_of(node: Node, src: str | None, tgt: str | None) -> list[Pair]:
    """The pairs of a node that pass the filter, and those with any source."""
    if src is not None and tgt is not None:
        return [(src, tgt)] if node.languages.serve(src, tgt, CORE_SERVICES) else []
    read = set(islice(node.languages.pairs(CORE_SERVICES), MAX_PAIRS))
    pairs = [pair for pair in read if src in (None, pair[0]) and tgt in (None, pair[1])]
    if src is None:
        pairs += [(ANY, target) for target in {pair[1] for pair in pairs if pair[0] != pair[1]}]
    return pairs
