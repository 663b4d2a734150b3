"""What a selection would do for a job that nobody asked for: a dry run (pools-and-cluster 3.8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from linguad.core.asking import key_for
from linguad.core.capability import NOWHERE, PoolRules
from linguad.core.fleet import Fleet
from linguad.core.key import Key
from linguad.core.services import CORE_SERVICES, Services
from linguad.core.steps import Steps, parts
from linguad.core.survey import Candidate, Survey, Tally, Veto, asked_of_nodes, candidate
from linguad.wire.common import PipelineConfig

WHOLE_FLEET = 0
"""Id of the only pool where no capability pools are configured."""

AUDIO_S = 3.0
"""Audio of the job, s: a sentence."""

MAX_LISTED = 100
"""Nodes that are listed, the best ones; all are counted."""

BREAKDOWN = tuple(Veto)[: list(Veto).index(Veto.FEATURE_UNSUPPORTED)]
"""Counters of the earlier server; the others cannot occur here, or concern no node of an eligible pool."""


class Question(Struct, frozen=True, kw_only=True):
    """The job."""

    routing_key: str = ""
    """What the way through the pools hangs on; if not given tenant and session tell it, as for any job."""
    tenant: str = ""
    session: str = ""
    required: Services = Services.NONE
    """None stands for speech into speech."""
    src: str = "zh"
    tgt: str = "en"
    public: bool = True
    """False: it may go to nodes that take no jobs of the public, too."""
    exclude: str = ""
    """Id of a node that it must not go to."""


class Debug(Struct, frozen=True, kw_only=True):
    """The way through the capability pools."""

    pool_count: int
    """Eligible pools, at least 1."""
    preferred_pool: int
    selected_pool: int | None = None
    fallback_used: bool = False
    attempts: list[tuple[int, str, int]] = []
    """Each pool that was asked: its id, `ok` or why it had nobody, and how many nodes it has."""


class Answer(Struct, frozen=True, kw_only=True):
    """What would happen."""

    routing_key: str
    selected_node_id: str | None
    debug: Debug
    breakdown: dict[str, int]
    """Of the pool that was selected, else of the preferred one; all counters of the earlier server."""
    asked_of_nodes: dict[str, object]
    audio_s: float
    excluded_node_id: str | None
    """None if there is no such node."""
    now: Survey
    """All nodes, whatever their pool."""


def simulate(fleet: Fleet, asked: Question) -> Steps[Answer]:
    """Play a selection through; nothing changes.

    The choice is that of the moment of the first step; the counts may show what changed after it.
    """
    pools = fleet.rules.pools
    routing_key = _routing_key(asked, pools)
    route, key = fleet.route(routing_key), _key(fleet, asked, routing_key)
    row = fleet.row_of(asked.exclude)
    excluded = () if row is None else (row,)
    rehearsal = fleet.rehearsal(public=asked.public)
    went, selected = yield from rehearsal.select(key, route, AUDIO_S, excluded, tenant=asked.tenant)
    whole, parted = Tally(MAX_LISTED), {pool: Tally(0) for pool in key.pools or (WHOLE_FLEET,)}
    for some in parts(list(rehearsal.nodes.items())):
        scores = rehearsal.scores(key, [one for one in some if rehearsal.fits(one[1], key)], route, AUDIO_S)
        found: list[Candidate] = []
        for row, node in some:
            score = scores.get(row, {}) | {"selected": row == selected}
            used, barred = rehearsal.used(row), row in excluded
            found.append(candidate(node, key, used, score, excluded=barred, public=asked.public))
        whole.add(found)
        for pool, tally in parted.items():
            tally.add([one for one in found if not key.pools or one.pool == pool])
        yield
    debug = _debug(pools, key, asked, route, went, parted, found=selected is not None)
    shown = debug.preferred_pool if debug.selected_pool is None else debug.selected_pool
    counted = parted.get(shown, Tally(0))
    breakdown = {"total_nodes": counted.total} | {veto: counted.breakdown.get(veto, 0) for veto in BREAKDOWN}
    return Answer(
        routing_key=routing_key,
        selected_node_id=None if selected is None else rehearsal.nodes[selected].id,
        debug=debug,
        breakdown=breakdown,
        asked_of_nodes=asked_of_nodes(key, pools),
        audio_s=AUDIO_S,
        excluded_node_id=asked.exclude if excluded else None,
        now=whole.survey(),
    )


def _routing_key(asked: Question, pools: PoolRules) -> str:
    """A tenant's jobs go one way if it has a pool; if not, each session goes its own (resolution 35)."""
    pinned = asked.tenant if asked.tenant in pools.tenants else ""
    return asked.routing_key or pinned or asked.session or asked.tenant or "default"


def _key(fleet: Fleet, asked: Question, routing_key: str) -> Key:
    needs = asked.required or CORE_SERVICES
    tone, plain = Services.TONE in needs, Services.TTS in needs
    pipeline = PipelineConfig(
        use_asr=Services.ASR in needs,
        use_nmt=Services.NMT in needs,
        use_tts=plain,
        use_tone=tone and not plain,
        use_semantic=Services.SEMANTIC in needs,
    )
    speakers = tone and plain  # a pipeline has either, but who tells speakers apart needs both
    return key_for(
        fleet, asked.src, asked.tgt, pipeline, speakers=speakers, session=routing_key, tenant=asked.tenant
    )


def _debug(
    pools: PoolRules,
    key: Key,
    asked: Question,
    route: int,
    went: Sequence[Key],
    parted: Mapping[int, Tally],
    *,
    found: bool,
) -> Debug:
    eligible = len(pools.eligible(key.needs)) or 1
    if key.pools == NOWHERE:
        pin = pools.tenants.get(asked.tenant)
        preferred = WHOLE_FLEET if pin is None else pin.pool
        return Debug(pool_count=eligible, preferred_pool=preferred)
    order = [one.pools[0] if one.pools else WHOLE_FLEET for one in went]
    reasons = [parted[pool].reason for pool in order]
    if found:
        reasons[-1] = "ok"
    return Debug(
        pool_count=eligible,
        preferred_pool=order[0],
        selected_pool=order[-1] if found else None,
        fallback_used=found and len(order) > 1,
        attempts=[(pool, why, parted[pool].total) for pool, why in zip(order, reasons, strict=True)],
    )
