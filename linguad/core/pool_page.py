"""The pools as an operator sees them: who is where, and what they serve (pools-and-cluster 3.7)."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from heapq import nsmallest
from itertools import islice

from msgspec import Struct, field

from linguad.core.coverage import SPEECH
from linguad.core.fleet import Fleet
from linguad.core.health import Status
from linguad.core.key import ANY
from linguad.core.languages import MAX_PAIRS, Languages, Pair
from linguad.core.node import Node
from linguad.core.services import CORE_SERVICES, Services
from linguad.core.simulate import WHOLE_FLEET
from linguad.core.steps import Steps, parts

SAMPLE = 5
"""Nodes that are named of each pool, those with the smallest ids."""

MAX_SHARDS = 100
"""Parts of a pair that are listed, the largest ones."""

MAX_PAIRS_READ = 200_000
"""Language pairs of different reports that are read for one page; the rest is left out."""

PAIRS_PER_STEP = 2_000
"""Pairs read or sorted in one step, which takes a few ms."""


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
    more_shards: int
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
    """Nodes whose languages were left out, because all of them would take too long; two filters take less."""


def page(fleet: Fleet, src: str | None, tgt: str | None, limit: int) -> Steps[Page]:
    """The pools, and of the pairs with these languages at most `limit`, those with most nodes first."""
    rules = fleet.rules.pools
    pools = {pool.id: _Pool() for pool in rules.pools} or {WHOLE_FLEET: _Pool()}
    kinds: dict[bytes, _Kind] = {}
    for some in parts(list(fleet.nodes.values())):
        for node in some:
            number = node.pool if rules.pools else WHOLE_FLEET
            if number is not None:
                pools[number].add(node)
            if node.fits_but_for_languages(SPEECH):
                row = fleet.row_of(node.id)
                assert row is not None, "every node that is online has a row"
                kind = kinds.setdefault(node.languages.digest, _Kind(node.languages))
                kind.add(node, fleet.table.where(row)[:2])
        yield
    pairs: dict[Pair, list[_Kind]] = {}
    read = told = skipped = 0
    for kind in sorted(kinds.values(), key=lambda kind: -len(kind.ids)):
        if read >= MAX_PAIRS_READ:
            skipped += len(kind.ids)
            continue
        for pair in _pairs_of(kind.languages, src, tgt):
            pairs.setdefault(pair, []).append(kind)
        read += 1 if src and tgt else min(kind.languages.most_pairs, MAX_PAIRS)
        if read - told >= PAIRS_PER_STEP:
            told = read
            yield
    most: list[tuple[int, Pair]] = []
    for more in parts(list(pairs), PAIRS_PER_STEP):
        most += [(-sum(len(kind.ids) for kind in pairs[pair]), pair) for pair in more]
        most = nsmallest(limit, most)
        yield
    lang_pools = []
    for _, pair in most:
        lang_pools.append(_facts(pair, pairs[pair]))
        yield
    return Page(
        pools=[
            pool.facts(number, rules.name(number), rules.services(number))
            for number, pool in sorted(pools.items())
        ],
        lang_pools=lang_pools,
        more_lang_pools=len(pairs) - len(lang_pools),
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


class _Kind:
    """Nodes that told the same about their languages."""

    def __init__(self, languages: Languages) -> None:
        self.languages = languages
        self.ids: list[str] = []
        self.ready = 0
        self.places: Counter[tuple[int, int]] = Counter()
        """How many are in each pool of each class."""

    def add(self, node: Node, place: tuple[int, int]) -> None:
        self.ids.append(node.id)
        self.ready += node.status is Status.READY
        self.places[place] += 1

    @cached_property
    def sample(self) -> list[str]:
        """The smallest ids."""
        return nsmallest(SAMPLE, self.ids)


def _facts(pair: Pair, kinds: list[_Kind]) -> PairFacts:
    src, tgt = pair
    places: Counter[tuple[int, int]] = Counter()
    for kind in kinds:
        places.update(kind.places)
    largest = sorted(place for place, _ in places.most_common(MAX_SHARDS))
    return PairFacts(
        src=src,
        tgt=tgt,
        kind="mixed" if src == ANY else "precise",
        shards=[Shard(number, places[place], *place) for number, place in enumerate(largest)],
        more_shards=len(places) - len(largest),
        online_nodes=sum(len(kind.ids) for kind in kinds),
        ready_nodes=sum(kind.ready for kind in kinds),
        sample_node_ids=nsmallest(SAMPLE, (node_id for kind in kinds for node_id in kind.sample)),
    )


def _pairs_of(languages: Languages, src: str | None, tgt: str | None) -> list[Pair]:
    """The pairs that pass the filter, and those with any source."""
    if src is not None and tgt is not None:
        return [(src, tgt)] if languages.serve(src, tgt, CORE_SERVICES) else []
    read = set(islice(languages.pairs(CORE_SERVICES), MAX_PAIRS))
    pairs = [pair for pair in read if src in (None, pair[0]) and tgt in (None, pair[1])]
    if src is None:
        pairs += [(ANY, target) for target in {pair[1] for pair in pairs if pair[0] != pair[1]}]
    return pairs
