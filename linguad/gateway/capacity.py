"""What the fleet has room for, told to those who ask before and to those who are refused.

`GET /v1/languages` lists the pairs that are served, `GET /v1/capacity` says whether so many sessions of one
pair would find room. The same figures are the `details` of refusals (429, 503).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec
from msgspec import Struct
from quart import Response
from quart_trio import QuartTrio

from linguad.core.coverage import Served
from linguad.core.tenant import Tenant
from linguad.gateway.access.admission import Admission
from linguad.gateway.access.protect import caller, protected
from linguad.web.problems import Problem
from linguad.web.query import query
from linguad.wire.language import AUTO, normalize

NO_NODE_WAIT_S = 30
"""When to try again a pair that no node serves: nodes that restart are back by then."""

BUSY_WAIT_S = 3
"""When to try again a pair whose nodes are all busy: about as long as a job takes."""

MAX_SESSIONS = 100_000
MAX_LANGUAGE_CHARS = 32


class Fleet(Protocol):
    """What is known of all nodes."""

    def languages(self) -> list[Served]:
        """The pairs that are served, sorted by source and target."""
        ...


class Room(Struct, frozen=True, omit_defaults=True):
    """What there is for one pair of languages now."""

    ready_nodes: int
    free_slots: int
    """Jobs these nodes could take at once; a session holds one only while it waits for a translation."""
    retry_after_s: int | None = None
    """When to try again; only if there is no room."""


class Capacity:
    """Reads the room for a pair from the fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def pairs(self, tenant: Tenant) -> list[Served]:
        """The pairs that are served and that a tenant may use."""
        allowed = tenant.allowed_languages
        pairs = self._fleet.languages()
        return pairs if allowed is None else [one for one in pairs if {one.src, one.tgt} <= {*allowed}]

    def room(self, src: str, tgt: str) -> Room:
        """What there is for a pair; for the source `auto` it is that of the best source."""
        src, tgt = normalize(src), normalize(tgt)
        best = max(self._served(src, tgt), key=lambda one: (one.free_slots, one.ready_nodes), default=None)
        if best is None:
            return Room(0, 0, NO_NODE_WAIT_S)
        return Room(best.ready_nodes, best.free_slots, None if best.free_slots else BUSY_WAIT_S)

    def hint(self, src: str, tgt: str) -> dict[str, int]:
        """`ready_nodes`, `free_slots` and `retry_after_s`, for the details of a refusal."""
        room = self.room(src, tgt)
        wait_s = room.retry_after_s or BUSY_WAIT_S
        return {
            "ready_nodes": room.ready_nodes,
            "free_slots": room.free_slots,
            "retry_after_s": wait_s,
        }

    def _served(self, src: str, tgt: str) -> Iterable[Served]:
        pairs = self._fleet.languages()
        if src == AUTO:
            return [one for one in pairs if one.tgt == tgt]
        at = bisect_left(pairs, (src, tgt), key=lambda one: (one.src, one.tgt))
        return [one for one in pairs[at : at + 1] if (one.src, one.tgt) == (src, tgt)]


def add_capacity_routes(app: QuartTrio, admission: Admission, capacity: Capacity) -> None:
    """Serve `/v1/languages` and `/v1/capacity` to everybody with a key."""

    @app.get("/v1/languages")
    @protected(admission)
    async def languages() -> Response:
        given = query(("from", "to"))
        src, tgt = _language("from", given), _language("to", given)
        pairs = [
            one
            for one in capacity.pairs(caller().tenant)
            if src in (None, one.src) and tgt in (None, one.tgt)
        ]
        return _json(
            {
                "pairs": pairs,
                "sources": sorted({one.src for one in pairs}),
                "targets": sorted({one.tgt for one in pairs}),
            }
        )

    @app.get("/v1/capacity")
    @protected(admission)
    async def room() -> Response:
        tenant, given = caller().tenant, query(("from", "to", "sessions"))
        src = _language("from", given) or tenant.default_src_lang
        tgt = _language("to", given) or tenant.default_tgt_lang
        sessions = _sessions(given)
        found = capacity.room(src, tgt)
        own = max(0, tenant.max_concurrent_sessions - admission.sessions_of(tenant.id))
        answer = {
            "from": src,
            "to": tgt,
            "sessions": sessions,
            "enough": sessions <= min(found.free_slots, own),
            "free_sessions": own,
        }
        return _json(answer | msgspec.to_builtins(found))


def _language(name: str, given: Mapping[str, str]) -> str | None:
    """The language in a query, normalised; None if it is not there. Raises Problem 422."""
    if name not in given:
        return None
    code = normalize(given[name])
    allowed = code.replace("-", "").replace("_", "").isalnum() and len(code) <= MAX_LANGUAGE_CHARS
    if not allowed or (name == "to" and code == AUTO):
        raise Problem.wrong_field(name, "give a language code such as en", "unsupported_language")
    return code


def _sessions(given: Mapping[str, str]) -> int:
    text = given.get("sessions", "1")
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= MAX_SESSIONS):
        raise Problem.wrong_field("sessions", f"give a whole number from 1 to {MAX_SESSIONS}")
    return int(text)


def _json(body: object) -> Response:
    return Response(msgspec.json.encode(body), content_type="application/json")
