"""The fleet as selection sees it for one job: who could do it, and why the others not (node-protocol 5.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from heapq import nsmallest
from typing import Any

from msgspec import Struct, field

from linguad.core.capability import ANYWHERE, NOWHERE, PoolRules
from linguad.core.fleet import Fleet
from linguad.core.health import Status
from linguad.core.key import ANY, Key
from linguad.core.languages import Languages
from linguad.core.node import Node
from linguad.core.services import Services, WhyNot
from linguad.pools import MAX_EXCLUDED

MAX_CANDIDATES = 1_000
"""Nodes listed for one job, the best ones; all are counted."""


class Veto(StrEnum):
    """Why a node does not get a job; in the order that decides ties of the summary (node-protocol 5.3)."""

    OFFLINE = "offline"
    STATUS_NOT_READY = "status_not_ready"
    NOT_IN_PUBLIC_POOL = "not_in_public_pool"
    GPU_UNAVAILABLE = "gpu_unavailable"
    MODEL_NOT_AVAILABLE = "model_not_available"
    CAPACITY_EXCEEDED = "capacity_exceeded"
    RESOURCE_THRESHOLD_EXCEEDED = "resource_threshold_exceeded"
    """Only a penalty of the score: counted, but such a node may be chosen (resolution 27)."""
    LANG_PAIR_UNSUPPORTED = "lang_pair_unsupported"
    ASR_LANG_UNSUPPORTED = "asr_lang_unsupported"
    TTS_LANG_UNSUPPORTED = "tts_lang_unsupported"
    SRC_AUTO_NO_CANDIDATE = "src_auto_no_candidate"
    FEATURE_UNSUPPORTED = "feature_unsupported"
    """Only where features are required."""
    NOT_PAIRED = "not_paired"
    """The session asked for another node."""
    NOT_IN_ELIGIBLE_POOL = "not_in_eligible_pool"
    """Its capability pool is none of those the job may go to."""


class Candidate(Struct, frozen=True, kw_only=True):
    """A node as selection sees it for one job; seconds, and audio seconds per second."""

    node_id: str
    status: str
    pool: int | None
    """Its capability pool."""
    veto: Veto | None
    missing_types: dict[str, WhyNot]
    failed_before: bool
    """It failed this job, so it is asked only when no other node is left."""
    excluded: bool
    overloaded: bool
    """Above the resource threshold, or with tasks in its GPU queue."""
    slots: int
    slots_used: int
    finish_s: float | None
    """When the node would be done with the job, penalties added; None if it cannot do it."""
    speed: float | None
    backlog_s: float | None
    penalty_s: float | None
    sticky: bool
    """The session's node so far."""
    selected: bool
    """A selection now would take it."""
    class_: int | None = field(name="class")
    """The nodes that serve the same have a number in common; None if it cannot do the job."""
    shard: int | None
    """Its pool in the class (decision 5)."""
    rank: int | None
    """When this pool is asked among those of the class; 0 is the one the routing key prefers."""


class Survey(Struct, frozen=True, kw_only=True):
    """The whole fleet as selection sees it for one job."""

    total_nodes: int
    reason: str
    """The summary label: `no_nodes`, the largest counter, or `unknown` if there is none."""
    breakdown: dict[str, int]
    missing_types: dict[str, WhyNot]
    """Needed types that nodes lack, each with the most frequent reason."""
    candidates: list[Candidate]
    """The best first, those with a veto behind."""
    more_candidates: int = 0


class Tally:
    """Counts candidates, and keeps the best of them."""

    def __init__(self, most: int = MAX_CANDIDATES) -> None:
        self.total = 0
        """Candidates but for the excluded ones."""
        self._most = most
        self._seen = 0
        self._counts: Counter[Veto] = Counter()
        self._reasons: dict[str, Counter[WhyNot]] = {}
        self._best: list[Candidate] = []

    def add(self, candidates: Sequence[Candidate]) -> None:
        """Count some more."""
        self._seen += len(candidates)
        self._best = nsmallest(self._most, [*self._best, *candidates], key=_rank)
        for one in candidates:
            if one.excluded:
                continue
            self.total += 1
            if one.veto is not None:
                self._counts[one.veto] += 1
            elif one.overloaded:
                self._counts[Veto.RESOURCE_THRESHOLD_EXCEEDED] += 1
            if one.veto in (Veto.MODEL_NOT_AVAILABLE, Veto.GPU_UNAVAILABLE):
                for kind, why in one.missing_types.items():
                    self._reasons.setdefault(kind, Counter())[why] += 1

    @property
    def reason(self) -> str:
        """The summary label: `no_nodes`, the largest counter, or `unknown` if there is none."""
        largest = max(Veto, key=self._counts.__getitem__)
        if not self.total:
            return "no_nodes"
        return largest if self._counts[largest] else "unknown"

    @property
    def breakdown(self) -> dict[str, int]:
        """The counters above 0."""
        return {veto: self._counts[veto] for veto in Veto if self._counts[veto]}

    def survey(self) -> Survey:
        """All of it."""
        return Survey(
            total_nodes=self.total,
            reason=self.reason,
            breakdown=self.breakdown,
            missing_types={kind: max(WhyNot, key=found.__getitem__) for kind, found in self._reasons.items()},
            candidates=self._best,
            more_candidates=self._seen - len(self._best),
        )


def survey(
    fleet: Fleet,
    key: Key,
    route: int,
    audio_s: float,
    failed: Sequence[int] = (),
    sticky: int = -1,
    tenant: str = "",
) -> Survey:
    """What a selection would find now; `failed` are the rows that failed the job."""
    tally = Tally()
    tally.add(candidates(fleet, key, route, audio_s, failed, sticky, tenant))
    return tally.survey()


def candidates(
    fleet: Fleet,
    key: Key,
    route: int,
    audio_s: float,
    failed: Sequence[int] = (),
    sticky: int = -1,
    tenant: str = "",
) -> list[Candidate]:
    """Every node, as a selection would see it now."""
    excluded = failed[-MAX_EXCLUDED:] if _others_are_ready(fleet, key, failed) else ()
    seen = {row["row"]: row for row in fleet.explain(key, route, audio_s, excluded, sticky, tenant)}
    found = []
    for node in fleet.nodes.values():
        row = fleet.row_of(node.id)
        assert row is not None, "every node has a row"
        flags = row in failed, row in excluded, row == sticky
        found.append(candidate(node, key, fleet.slots_used(node.id), seen.get(row, {}), *flags))
    return found


def candidate(
    node: Node,
    key: Key,
    used: int,
    score: Mapping[str, Any],
    failed_before: bool = False,
    excluded: bool = False,
    sticky: bool = False,
    *,
    public: bool = True,
) -> Candidate:
    """A node with its score, of which one that does not fit has none; `used` are its slots that are out."""
    missing = missing_types(node, key.needs)
    eligible = "vetoes" in score and "not_ready" not in score["vetoes"]
    return Candidate(
        node_id=node.id,
        status=node.status.value,
        pool=node.pool,
        veto=_standing_veto(node, key, missing, public)
        or (None if eligible else Veto.STATUS_NOT_READY)
        or (Veto.CAPACITY_EXCEEDED if used >= node.slots else None),
        missing_types=missing,
        failed_before=failed_before,
        excluded=excluded,
        overloaded=bool(score.get("penalty_s")) or bool(node.usage.gpu_queue_length),
        slots=node.slots,
        slots_used=used,
        finish_s=score.get("finish_s"),
        speed=score.get("speed"),
        backlog_s=score.get("backlog_s"),
        penalty_s=score.get("penalty_s"),
        sticky=sticky,
        selected=bool(score.get("selected")),
        class_=score.get("class"),
        shard=score.get("pool"),
        rank=score.get("rank"),
    )


def asked_of_nodes(key: Key, pools: PoolRules) -> dict[str, object]:
    """A key as JSON; `pools` is null where there are none, empty if the job may go to none of them."""
    ids = None if key.pools == ANYWHERE else [] if key.pools == NOWHERE else list(key.pools)
    return {
        "src": key.src,
        "tgt": key.tgt,
        "both_ways": key.two_way,
        "services": key.needs.names,
        "features": key.features.names,
        "node": key.node or None,
        "pools": ids,
        "pool_names": None if ids is None else [pools.name(pool) for pool in ids],
    }


def missing_types(node: Node, needs: Services) -> dict[str, WhyNot]:
    """The needed service types a node cannot do now, each with its reason."""
    lacking = int(needs) & ~int(node.services.running)
    if not lacking:
        return {}
    return {str(kind.name).lower(): node.services.why_not(kind) for kind in Services if kind & lacking}


def _others_are_ready(fleet: Fleet, key: Key, failed: Sequence[int]) -> bool:
    """Whether nodes that failed before stay excluded: while another one could do the job."""
    rows = {fleet.row_of(node.id): node for node in fleet.nodes.values()} if failed else {}
    return any(
        row is not None and row not in failed and node.status is Status.READY and fleet.fits(row, key)
        for row, node in rows.items()
    )


def _standing_veto(node: Node, key: Key, missing: dict[str, WhyNot], public: bool) -> Veto | None:
    """The first filter, of those in front of the slots, that a node does not pass."""
    rules = node.rules
    if not node.online:
        return Veto.OFFLINE
    if node.status is not Status.READY:
        return Veto.STATUS_NOT_READY
    if not node.has_gpu and (rules.require_gpu == "always" or (rules.require_gpu != "never" and missing)):
        return Veto.GPU_UNAVAILABLE
    if key.node and key.node != node.id:
        return Veto.NOT_PAIRED
    if public and not key.node and not node.accepts_public:
        return Veto.NOT_IN_PUBLIC_POOL
    if key.pools and node.pool not in key.pools:
        return Veto.NOT_IN_ELIGIBLE_POOL
    if missing:
        return Veto.MODEL_NOT_AVAILABLE
    if key.features & ~node.features:
        return Veto.FEATURE_UNSUPPORTED
    return _language_veto(node.languages, key)


def _language_veto(languages: Languages, key: Key) -> Veto | None:
    src, tgt, needs, two_way = key[:4]
    if languages.serve(src, tgt, needs) and (not two_way or languages.serve(tgt, src, needs)):
        return None
    if not needs & Services.NMT:
        return Veto.ASR_LANG_UNSUPPORTED
    if two_way or src == ANY:
        return Veto.SRC_AUTO_NO_CANDIDATE
    if src not in languages.asr:
        return Veto.ASR_LANG_UNSUPPORTED
    if languages.serve(src, tgt, needs & ~(Services.TTS | Services.TONE)):
        return Veto.TTS_LANG_UNSUPPORTED
    return Veto.LANG_PAIR_UNSUPPORTED


def _rank(one: Candidate) -> tuple[bool, bool, float, str]:
    return one.veto is not None, one.excluded, one.finish_s or 0.0, one.node_id
