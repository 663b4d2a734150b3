"""`GET /api/v1/sessions`: who is connected; nothing that was said, no addresses. Needs the admin token."""

from __future__ import annotations

from typing import Any

import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from linguad.ops.instance import Instance, Seen
from linguad.ops.query import MAX_VALUE_CHARS, Wrong, check, language, number
from linguad.web.admin import admin_only
from linguad.wire.language import normalize

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
"""Sessions that are listed."""

STATES = ("attached", "detached")

FILTERS = {
    "src": "a language that is spoken, such as en",
    "tgt": "a language that is wanted, such as es",
    "state": "attached or detached",
    "q": f"part of an id, a trace id, a tenant or a platform, at most {MAX_VALUE_CHARS} characters",
    "limit": f"a whole number from 1 to {MAX_LIMIT}, how many are listed",
}


def add_session_routes(app: QuartTrio, instance: Instance, token: str) -> None:
    """Serve the sessions on an app."""

    @app.get("/api/v1/sessions")
    @admin_only(token)
    async def sessions() -> Response:
        asked = request.args.to_dict()
        check(asked, FILTERS)
        limit = number("limit", asked, FILTERS, DEFAULT_LIMIT, MAX_LIMIT)
        state = asked.get("state")
        if state not in (None, *STATES):
            raise Wrong(f"state: allowed is {FILTERS['state']}.")
        src, tgt = (language(name, asked, FILTERS) for name in ("src", "tgt"))
        part = asked.get("q", "").casefold()
        seen = instance.sessions_seen()
        found = [one for one in seen if _wanted(one, src, tgt, state, part)]
        body = {"total": len(seen), "found": len(found), "sessions": [_told(one) for one in found[:limit]]}
        return Response(msgspec.json.encode(body), content_type="application/json")


def _wanted(one: Seen, src: str | None, tgt: str | None, state: str | None, part: str) -> bool:
    shared = one.session.request
    names = f"{one.session.id}\n{one.session.trace_id}\n{shared.tenant}\n{one.session.platform}"
    return (
        src in (None, normalize(shared.src_lang))
        and tgt in (None, normalize(shared.tgt_lang))
        and state in (None, STATES[not one.attached])
        and part in names.casefold()
    )


def _told(one: Seen) -> dict[str, Any]:
    session, shared = one.session, one.session.request
    return {
        "session_id": session.id,
        "trace_id": session.trace_id,
        "state": STATES[not one.attached],
        "platform": session.platform,
        "tenant": shared.tenant,
        "src": shared.src_lang,
        "tgt": shared.tgt_lang,
        "mode": shared.mode,
        "lang_a": shared.lang_a,
        "lang_b": shared.lang_b,
        "room_id": one.room_id or None,
        "paired_node_id": session.node_id or None,
        "can_resume": session.recovery is not None,
        "next_index": session.next_index,
        "open_utterances": session.open_utterances,
        "buffered_bytes": session.buffered_bytes,
    }
