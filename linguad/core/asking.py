"""What a job asks of a node, which depends on who is there (resolution 33)."""

from __future__ import annotations

from collections.abc import Sequence

from linguad.core.capability import ANYWHERE
from linguad.core.fleet import Fleet
from linguad.core.key import ANY, Features, Key
from linguad.core.services import Services
from linguad.wire.common import PipelineConfig
from linguad.wire.language import AUTO, normalize

MAX_AMONG = 8
"""Possible source languages of a job that are looked at."""


def key_for(
    fleet: Fleet,
    src: str,
    tgt: str,
    pipeline: PipelineConfig,
    lang_a: str | None = None,
    lang_b: str | None = None,
    *,
    among: Sequence[str] = (),
    speakers: bool = False,
    features: Features = Features.NONE,
    node: str = "",
    session: str = "",
    tenant: str = "",
) -> Key:
    """What a job asks of a node (resolution 33); two-way if only the pair of languages is known.

    Of an unknown source `among` others it asks for the first with a free slot, else with a ready node,
    else with any. To tell `speakers` apart needs the tone service. `features` and `node` narrow down who
    fits, and so do the capability pools, where `session` and `tenant` may have a say.
    """
    needs = Services.needed(pipeline)
    if speakers:
        needs |= Services.TONE
    source, target = normalize(src), normalize(tgt)
    pools = ANYWHERE if node else _pools_for(fleet, needs, session, tenant)

    def asked(src: str, tgt: str, *, two_way: bool = False) -> Key:
        return Key(src, tgt, needs, two_way, features, node, pools)

    if not pipeline.use_nmt:
        return asked(ANY if source == AUTO else source, ANY)
    if source != AUTO:
        return asked(source, target)
    if lang_a and lang_b:
        a, b = normalize(lang_a), normalize(lang_b)
        both_ways = asked(*sorted((a, b)), two_way=True)
        return both_ways if fleet.serves(both_ways) else asked(a, b)
    possible = [asked(code, target) for code in map(normalize, among[:MAX_AMONG]) if code != AUTO]
    for good in (fleet.has_room, fleet.has_ready, fleet.serves):
        if (found := next(filter(good, possible), None)) is not None:
            return found
    return possible[0] if possible else asked(ANY, target)


def _pools_for(fleet: Fleet, needs: Services, session: str, tenant: str) -> tuple[int, ...]:
    pools = fleet.rules.pools
    return pools.asked(needs, tenant, fleet.route(session, tenant)) if pools.pools else ANYWHERE
