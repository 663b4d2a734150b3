"""`/api/v1/pools` and `/api/v1/pools/simulate`: who is in which pool, where a job would go (spec 3.7, 3.8).

Both need the admin token, change nothing, and answer under the earlier server's paths too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio

from linguad.config import Config, Pools
from linguad.core.dispatch import Dispatch
from linguad.core.index import MAX_KEYS
from linguad.core.pool_page import page
from linguad.core.services import Services
from linguad.core.simulate import Answer, Question, simulate
from linguad.ops.query import MAX_VALUE_CHARS, Wrong, answer_wrong, check, language, number
from linguad.ops.steps import patiently
from linguad.web.admin import admin_only
from linguad.wire.language import normalize

PLACES = ("/api/v1/pools", "/api/v1/phase3/pools")
DRY_RUNS = ("/api/v1/pools/simulate", "/api/v1/phase3/simulate")

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
"""Language pairs that are listed."""

FILTERS = {
    "src": "a language that is spoken, such as en",
    "tgt": "a language that is wanted, such as es",
    "limit": f"a whole number from 1 to {MAX_LIMIT}, how many language pairs are listed",
}
_NAME = f"any text, at most {MAX_VALUE_CHARS} characters"
QUESTIONS = {
    "routing_key": _NAME,
    "tenant_id": _NAME,
    "session_id": _NAME,
    "required": ", ".join(Services(31).names) + "; may be given several times",
    "src_lang": "a language that is spoken, such as en, or auto",
    "tgt_lang": "a language that is wanted, such as es",
    "accept_public": "true or false",
    "exclude_node_id": "the id of a node",
}
"""What may be asked, and what each may be."""


class Instance(Protocol):
    """Where the nodes are."""

    @property
    def config(self) -> Config:
        """The settings in force, which a reload exchanges."""
        ...

    @property
    def dispatch(self) -> Dispatch:
        """Their records."""
        ...


def add_pool_routes(app: QuartTrio, instance: Instance, token: str) -> None:
    """Serve the pools on an app."""
    answer_wrong(app)
    one_at_a_time = trio.Lock()  # a dry run has a table of its own, which is large where the fleet is

    def serve(paths: tuple[str, ...], view: Callable[[], Any]) -> None:
        for path in paths:
            app.add_url_rule(path, endpoint=path, view_func=admin_only(token)(view))

    async def pools() -> Response:
        asked = request.args.to_dict()
        check(asked, FILTERS)
        src, tgt = (language(name, asked, FILTERS) for name in ("src", "tgt"))
        limit = number("limit", asked, FILTERS, DEFAULT_LIMIT, MAX_LIMIT)
        found = await patiently(page(instance.dispatch.fleet, src, tgt, limit))
        return _json({"config": _config(instance.config.pools)} | msgspec.to_builtins(found))

    async def dry_run() -> Response:
        question = _question()
        async with one_at_a_time:
            answer = await patiently(simulate(instance.dispatch.fleet, question))
        return _json(_told(answer))

    serve(PLACES, pools)
    serve(DRY_RUNS, dry_run)


def _config(settings: Pools) -> dict[str, Any]:
    """The settings, under the names of the earlier server too (pools-and-cluster 9.5)."""
    pools: list[dict[str, Any]] = [
        {"pool_id": pool.id, "name": name, "required_services": list(pool.required_services)}
        for name, pool in sorted(settings.capability.items(), key=lambda one: one[1].id)
    ]
    tenants = [
        {"tenant_id": tenant, "pool_id": settings.capability[chosen.pool].id, "strict": chosen.strict}
        for tenant, chosen in settings.tenants.items()
    ]
    own: dict[str, Any] = msgspec.to_builtins(settings)
    return own | {
        "enabled": bool(pools),
        "mode": "two_level",
        "pool_count": len(pools) or 1,
        "fallback_scan_all_pools": settings.fallback,
        "pools": pools,
        "tenant_overrides": tenants,
        "pool_match_scope": settings.match_scope,
        "pool_match_mode": settings.match_mode,
        "strict_pool_eligibility": settings.strict_eligibility,
        "auto_generate_language_pools": True,
        "auto_pool_config": {
            "min_nodes_per_pool": 1,
            "max_pools": MAX_KEYS,
            "pool_naming": "pair",
            "require_semantic": False,
            "enable_mixed_pools": True,
        },
        "random_sample_size": settings.choices,
        "enable_session_affinity": True,
    }


def _question() -> Question:
    """What the query asks. Raises Wrong."""
    given = request.args.to_dict()
    asked = {name: text for name, text in given.items() if text.strip() or QUESTIONS.get(name) != _NAME}
    check(asked, QUESTIONS)
    required = Services.NONE
    for name in request.args.getlist("required"):
        try:
            required |= Services.of([name])
        except KeyError:
            raise Wrong(f"required: there is no {name[:64]!r}; allowed is {QUESTIONS['required']}.") from None
    public = asked.get("accept_public", "true").lower()
    if public not in ("true", "false", "1", "0"):
        raise Wrong(f"accept_public: allowed is {QUESTIONS['accept_public']}.")
    return Question(
        routing_key=asked.get("routing_key", "").strip(),
        tenant=asked.get("tenant_id", "").strip(),
        session=asked.get("session_id", "").strip(),
        required=required,
        src=_language("src_lang", asked, "zh"),
        tgt=_language("tgt_lang", asked, "en"),
        public=public in ("true", "1"),
        exclude=asked.get("exclude_node_id", ""),
    )


def _language(name: str, asked: dict[str, str], default: str) -> str:
    code = normalize(asked.get(name, default))
    if not code.replace("-", "").replace("_", "").isalnum():
        raise Wrong(f"{name}: allowed is {QUESTIONS[name]}.")
    return code


def _told(answer: Answer) -> Any:
    """The answer with what was required as it was given, as the earlier server does (D-38)."""
    return msgspec.to_builtins(answer) | {"required": request.args.getlist("required")}


def _json(body: Any) -> Response:
    return Response(msgspec.json.encode(body), content_type="application/json")
