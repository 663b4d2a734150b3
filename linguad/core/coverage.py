"""Which languages the fleet serves now, and what is nearest to those it does not.

Nodes that offer the same are counted together. What was found holds for a second, longer where it took much
work: how often clients ask does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import nsmallest
from itertools import islice

from msgspec import Struct
from msgspec.structs import replace

from linguad.core.fleet import Fleet
from linguad.core.health import Status
from linguad.core.job import JobRequest
from linguad.core.key import ANY, Key
from linguad.core.languages import Pair
from linguad.core.node import Node
from linguad.core.services import CORE_SERVICES, Services
from linguad.wire.language import AUTO

FRESH_S = 1.0
"""How long a survey holds at least."""

WORK_PER_S = 25_000
"""Pairs of nodes counted per second, which takes a few ms; what needs more is surveyed less often."""

WORK_OF_NODE = 15
WORK_OF_READING = 2
WORK_OF_TELLING = 2
"""Looking at a node, reading a pair in a new report, telling about one: as much as counting so many pairs."""

MAX_PAIRS = 200_000
"""Pairs of nodes counted for one survey; what goes beyond is left out, that of the most boastful nodes."""

MAX_READ = 20_000
"""Pairs of new reports read for one survey; the next one reads on."""

MAX_SURVEYS = 64
"""Surveys that are kept; there is one for each set of services and features that sessions ask for."""

MAX_ALTERNATIVES = 8

SPEECH = Key(ANY, ANY, CORE_SERVICES)
"""Speech into speech, for anybody."""


class Served(Struct, frozen=True, gc=False):
    """A pair of languages that ready nodes turn speech of one into speech of the other."""

    src: str
    tgt: str
    ready_nodes: int
    free_slots: int
    """Jobs these nodes could take now; a slot counts for every pair of its node."""


class Unserved(Struct, frozen=True):
    """No ready node does what is asked for."""

    src: str
    """Normalised; `auto` if any language was to be understood."""
    tgt: str
    alternatives: tuple[Pair, ...]
    """What ready nodes do instead, at most 8: other targets of this source first, then other sources of this
    target, those with most nodes first."""


class Coverage:
    """Mutable state: what was found lately, and how much more may be looked at."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._surveys: dict[Key, _Survey] = {}
        self._credit = float(WORK_PER_S)
        self._credited_at = 0.0

    def problem(self, request: JobRequest, key: Key, now: float) -> Unserved | None:
        """What no ready node, busy or not, can do of a job; None if one can do all of it.

        `key` is what the job asks of a node. The answer is that of this moment, alternatives may be older.
        """
        if self._fleet.has_ready(key):
            return None
        src = AUTO if key.src == ANY else key.src
        tgt = request.tgt_lang if key.tgt == ANY else key.tgt
        survey = self._survey(key._replace(src=ANY, tgt=ANY, two_way=False), now)
        nearest = tuple(
            (AUTO if one.src == ANY else one.src, tgt if one.tgt == ANY else one.tgt)
            for one in survey.nearest(key.src, key.tgt)
        )
        return Unserved(src, tgt, nearest)

    def unsupported_features(self, key: Key) -> list[str]:
        """The features that a key requires, if no registered node has them."""
        return key.features.names if key.features and not self._fleet.serves(key) else []

    def pairs(self, now: float) -> list[Served]:
        """All pairs that ready nodes serve anybody, sorted; not to be changed, it is shared for a second."""
        return self._survey(SPEECH, now).served

    def _survey(self, asked: Key, now: float) -> _Survey:
        survey = self._surveys.get(asked)
        if survey is not None and now < survey.holds_until:
            return survey
        self._credit += (now - self._credited_at) * WORK_PER_S
        self._credit, self._credited_at = min(self._credit, float(WORK_PER_S)), now
        if survey is None:
            survey = _Survey(asked.needs)
            if self._credit < 0 and asked != SPEECH:
                return survey
            self._surveys[asked] = survey
            if len(self._surveys) > MAX_SURVEYS:
                del self._surveys[next(iter(self._surveys))]
        elif self._credit < 0:
            return survey
        nodes = self._nodes_for(asked)
        self._credit -= len(nodes) * WORK_OF_NODE + survey.count(self._kinds(nodes, asked))
        survey.holds_until = now + FRESH_S
        return survey

    def _nodes_for(self, asked: Key) -> list[Node]:
        if not asked.node:
            return list(self._fleet.nodes.values())
        node = self._fleet.nodes.get(asked.node)
        return [] if node is None else [node]

    def _kinds(self, nodes: list[Node], asked: Key) -> list[_Kind]:
        """The ready ones of these nodes that do such jobs in some language; what is counted fastest first."""
        kinds: dict[object, _Kind] = {}
        for node in nodes:
            if node.status is Status.READY:
                services, features = int(node.services.running), int(node.features)
                offer = (node.languages.digest, services, features, node.accepts_public, node.pool)
                if (kind := kinds.get(offer)) is None:
                    kind = kinds[offer] = _Kind(node)
                kind.nodes += 1
                kind.free_slots += max(0, node.slots - self._fleet.slots_used(node.id))
        fit = [kind for kind in kinds.values() if kind.example.fits_but_for_languages(asked)]
        return sorted(fit, key=lambda kind: kind.example.languages.most_pairs / kind.nodes)


class _Kind:
    """Nodes that offer the same."""

    def __init__(self, example: Node) -> None:
        self.example = example
        self.nodes = 0
        self.free_slots = 0


class _Tally:
    """What was counted for a pair."""

    __slots__ = ("free_slots", "nodes", "served")  # with a Struct counting takes twice as long

    def __init__(self, pair: Pair) -> None:
        self.served = Served(*pair, 0, 0)
        """As it was told last."""
        self.nodes = self.free_slots = 0

    def told(self) -> Served:
        """As it is told now; of most pairs nothing changed."""
        served = self.served
        if served.ready_nodes != self.nodes or served.free_slots != self.free_slots:
            self.served = served = Served(served.src, served.tgt, self.nodes, self.free_slots)
        return served


class _Report:
    """The tallies of the pairs that a report of a node stands for, as far as it was read."""

    def __init__(self, pairs: Iterator[Pair]) -> None:
        self.tallies: dict[Pair, _Tally] = {}
        self._unread = pairs

    def read(self, most: int, known: dict[Pair, _Tally]) -> int:
        """Read on; returns how many pairs that were. Their tallies are the known ones or become known."""
        pairs = list(islice(self._unread, max(0, most)))
        for pair in pairs:
            if (tally := known.get(pair)) is None:
                tally = known[pair] = _Tally(pair)
            self.tallies[pair] = tally
        return len(pairs)


class _Survey:
    """The pairs served to those who need certain services, counted from time to time.

    Reports are read once and then point to the tallies of their pairs: that is what makes counting fast.
    """

    def __init__(self, needs: Services) -> None:
        self.served: list[Served] = []
        self.holds_until = 0.0
        self._needs = needs
        self._tallies: dict[Pair, _Tally] = {}
        self._reports: dict[bytes, _Report] = {}
        self._by_source: dict[str, list[Served]] = {}
        self._by_target: dict[str, list[Served]] = {}

    def count(self, kinds: list[_Kind]) -> int:
        """Count the pairs of these nodes; returns how much work that was."""
        for tally in self._tallies.values():
            tally.nodes = tally.free_slots = 0
        counted, read, known = 0, 0, len(self._tallies)
        before, self._reports = self._reports, {}
        for kind in kinds:
            languages, left = kind.example.languages, MAX_PAIRS - counted
            if left <= 0:
                break
            report = self._reports.get(languages.digest) or before.get(languages.digest)
            if report is None:
                report = _Report(languages.pairs(self._needs))
            read += report.read(min(MAX_READ - read, left - len(report.tallies)), self._tallies)
            self._reports[languages.digest] = report
            counted += len(report.tallies)
            nodes, free_slots = kind.nodes, kind.free_slots
            for tally in report.tallies.values():
                tally.nodes += nodes
                tally.free_slots += free_slots
        if len(self._tallies) > known:
            self._tallies = dict(sorted(self._tallies.items()))
        self.served = [tally.told() for tally in self._tallies.values() if tally.nodes]
        self._by_source.clear()
        self._by_target.clear()
        work = counted + read * WORK_OF_READING + len(self._tallies) * WORK_OF_TELLING
        if len(self.served) < len(self._tallies) // 2:
            self._tallies, self._reports = {}, {}
        return work

    def nearest(self, src: str, tgt: str) -> list[Served]:
        """What comes closest to a pair that is not served."""
        if not self._by_target:
            self._index()
        targets = _best(one for one in self._by_source.get(src, ()) if one.tgt != tgt)
        sources = _best(one for one in self._by_target.get(tgt, ()) if one.src != src)
        return (targets + sources)[:MAX_ALTERNATIVES]

    def _index(self) -> None:
        """By source and by target; the source `*` has as many nodes as the best one for a target."""
        for one in self.served:
            self._by_source.setdefault(one.src, []).append(one)
            self._by_target.setdefault(one.tgt, []).append(one)
        anything = [replace(_best(found)[0], src=ANY) for found in self._by_target.values()]
        self._by_source[ANY] = anything


def _best(served: Iterable[Served]) -> list[Served]:
    return nsmallest(MAX_ALTERNATIVES, served, key=lambda one: (-one.ready_nodes, one.src, one.tgt))
