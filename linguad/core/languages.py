"""The languages of a node, normalised once per report (node-protocol 2.12, 5.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from linguad.core.key import ANY
from linguad.core.services import Services
from linguad.wire.language import AUTO, normalize
from linguad.wire.node import LanguagePair, NmtCapability, NodeLanguageCapabilities

MAX_LANGUAGES = 2_000
"""Codes of one list that are believed; the largest models of today know 1 100. Bounds the work for a node."""

MAX_PAIRS = 10_000
"""Language pairs believed of one node: a hundred languages each into each."""

MAX_RULE_PAIRS = 1_000
"""Pairs believed of one translation rule; a hundred rules then take a tenth of a second to read."""

MAX_RULES = 100
"""Translation rules of one node that are believed."""

Pair = tuple[str, str]
"""Source and target."""


class Languages:
    """What one report of a node says; see the case table of node-protocol 5.2."""

    def __init__(self, reported: NodeLanguageCapabilities) -> None:
        self.digest = hashlib.blake2b(msgspec.json.encode(reported), digest_size=16).digest()
        """The same for the same report, whichever node it is of."""
        self.asr = _codes(reported.asr_languages)
        self.tts = _codes(reported.tts_languages)
        self._pairs = None
        if reported.supported_language_pairs is not None:
            self._pairs = _pairs(reported.supported_language_pairs, MAX_PAIRS)
        self._rules = None
        self._sources = self.asr
        if reported.nmt_capabilities is not None:
            self._rules = [_Rule(rule) for rule in reported.nmt_capabilities[:MAX_RULES]]
            self._sources = self.asr & (_codes(reported.semantic_languages) or self.asr)
        self._spoken = self._targets(speaks=True)
        self._written = self._targets(speaks=False)
        self.codes = (
            self.asr | self.tts | self._written | {code for pair in self._pairs or () for code in pair}
        )
        """Every language the node could be asked for."""

    @property
    def any(self) -> bool:
        """Whether there is a pair the node can do, be it in writing only."""
        return bool(self._spoken or self._written)

    @property
    def most_pairs(self) -> int:
        """There are not more pairs than that."""
        return len(self._sources) * len(self._written) if self._pairs is None else len(self._pairs)

    def serve(self, src: str, tgt: str, needs: Services) -> bool:
        """Whether such jobs can be done; `*` as a side asks for any language there."""
        if not needs & Services.NMT:
            return src == ANY or src in self.asr
        speaks = bool(needs & (Services.TTS | Services.TONE))
        if src == ANY:
            return tgt in (self._spoken if speaks else self._written)
        if self._pairs is not None:
            return (src, tgt) in self._pairs
        if src == tgt or src not in self._sources:
            return False
        if self._rules is None:
            return tgt in self.tts
        return (tgt in self.tts or not speaks) and any(rule.allows(src, tgt) for rule in self._rules)

    def pairs(self, needs: Services) -> Iterator[Pair]:
        """The pairs that `serve` affirms, some of them twice; without translation `*` is the target.

        A report may stand for millions; who cannot use them all takes the first.
        """
        if not needs & Services.NMT:
            yield from ((src, ANY) for src in sorted(self.asr))
        elif self._pairs is not None:
            yield from sorted(self._pairs)
        elif self._rules is None:
            yield from _each_into_each(self._sources, self.tts)
        else:
            speaks = bool(needs & (Services.TTS | Services.TONE))
            for rule in self._rules:
                yield from rule.pairs(self._sources, self.tts if speaks else None)

    def _targets(self, *, speaks: bool) -> set[str]:
        """Languages that some source can be translated into."""
        if self._pairs is not None:
            return {tgt for _, tgt in self._pairs}
        if self._rules is None:
            return {tgt for tgt in self.tts if self.asr and self.asr != {tgt}}
        found = set().union(*(rule.targets_from(self._sources) for rule in self._rules))
        return found & self.tts if speaks else found


class _Rule:
    """One translation rule, read once (table in node-protocol 2.12); unknown ones allow nothing."""

    def __init__(self, reported: NmtCapability) -> None:
        languages = _codes(reported.languages)
        self._blocked = _pairs(reported.blocked_pairs)
        self._listed: set[Pair] | None = None
        self._sources: set[str] = set()
        self._targets: set[str] = set()
        match reported.rule:
            case "any_to_any":
                self._sources = self._targets = languages
            case "any_to_en":
                self._sources, self._targets = languages, {"en"}
            case "en_to_any":
                self._sources, self._targets = {"en"}, languages
            case "specific_pairs":
                self._listed = _pairs(reported.supported_pairs) - self._blocked

    def allows(self, src: str, tgt: str) -> bool:
        """Whether the pair of two different languages can be translated."""
        if self._listed is not None:
            return (src, tgt) in self._listed
        return src in self._sources and tgt in self._targets and (src, tgt) not in self._blocked

    def pairs(self, sources: set[str], targets: set[str] | None) -> Iterator[Pair]:
        """The pairs of these that it allows; None is any target."""
        if self._listed is not None:
            listed = sorted(self._listed)
            return (pair for pair in listed if pair[0] in sources and (targets is None or pair[1] in targets))
        ends = self._targets if targets is None else self._targets & targets
        possible = _each_into_each(self._sources & sources, ends)
        return (pair for pair in possible if pair not in self._blocked)

    def targets_from(self, sources: set[str]) -> set[str]:
        """Languages that one of these sources can be translated into."""
        if self._listed is not None:
            return {tgt for src, tgt in self._listed if src in sources}
        starts = self._sources & sources
        # only the language itself and blocked pairs are tried in vain, so this takes no time of n times n
        return {
            tgt
            for tgt in self._targets
            if any(src != tgt and (src, tgt) not in self._blocked for src in starts)
        }


def _each_into_each(sources: set[str], targets: set[str]) -> Iterator[Pair]:
    ordered = sorted(targets)
    return ((src, tgt) for src in sorted(sources) for tgt in ordered if src != tgt)


def _codes(codes: list[str] | None) -> set[str]:
    return {code for code in map(normalize, (codes or ())[:MAX_LANGUAGES]) if code and code != AUTO}


def _pairs(pairs: list[LanguagePair] | None, most: int = MAX_RULE_PAIRS) -> set[Pair]:
    """Directed pairs of two different languages."""
    found = {(normalize(pair.src), normalize(pair.tgt)) for pair in (pairs or ())[:most]}
    return {(src, tgt) for src, tgt in found if src != tgt and src and tgt and AUTO not in (src, tgt)}
