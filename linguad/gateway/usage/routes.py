"""GET /v1/usage, and what operators see and change of usage, ledger and credits (gateway 11.1, 11.7)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypeVar

from msgspec import Meta, Struct
from quart import Response, g, jsonify
from quart_trio import QuartTrio

from linguad.core.accounts import Actor
from linguad.core.ledger import Counts, Line, NodeAccount, Step
from linguad.core.tenant import BillingMode, Caller, Scope, Tenant
from linguad.gateway.access.protect import actor
from linguad.gateway.refusals import answer_refusals
from linguad.web.body import json_body
from linguad.web.problems import Problem
from linguad.web.query import cursor, cursor_of, limit_of, moment_of, number_of, query
from linguad.wire.moment import told

MAX_RANGE_DAYS = 92
"""Three months in one answer."""

SHOWN_TRANSFERS = 50
"""Transfers of an owner of nodes that are shown."""

HOUR_S, DAY_HOURS = 3600, 24

COUNTERS = {
    "requests": "requests",
    "errors": "errors",
    "sessions": "sessions",
    "utterances": "utterances",
    "audio_ms_in": "charged_ms",
    "audio_ms_out": "audio_ms_out",
    "chars_asr": "chars_asr",
    "chars_translated": "chars_translated",
    "asr_time_ms": "asr_ms",
    "nmt_time_ms": "nmt_ms",
    "tts_time_ms": "tts_ms",
    "total_processing_time_ms": "total_ms",
}
"""Names of the counters in answers, and in the store."""

View = TypeVar("View", bound=Callable[..., Awaitable[Any]])
_Plain = Callable[..., Awaitable[Response]]


class Protect(Protocol):
    """Makes a decorator for views that need a scope; it sets `g.caller`."""

    def __call__(self, scope: Scope, /) -> Callable[[View], View]:
        """The decorator."""
        ...


class Books(Protocol):
    """The books, as the store keeps them."""

    def balance_seconds(self, tenant_id: str) -> int:
        """What a tenant owns, less what its open sessions cost so far."""
        ...

    async def report(self, tenant_id: str, begin: int, end: int, width: int) -> tuple[list[Step], int]:
        """Counters of the hours [begin, end) since 1970 in steps of `width`, and the seconds billed."""
        ...

    async def lines(self, account: str, before_id: int | None, limit: int) -> list[Line]:
        """The ledger of an account, the latest line first."""
        ...

    async def credit(self, tenant_id: str, seconds: int, reason: str, actor: Actor, request_id: str) -> Line:
        """Change a balance by hand; may raise ConflictError."""
        ...

    async def node_accounts(self, after: str, limit: int) -> list[NodeAccount]:
        """What owners of nodes have, in order of their names."""
        ...

    async def node_account(self, owner: str) -> NodeAccount:
        """What one owner of nodes has; may raise NotFoundError."""
        ...

    async def transfer(
        self, owner: str, tenant_id: str, seconds: int, actor: Actor, request_id: str
    ) -> tuple[NodeAccount, Line]:
        """Give what an owner of nodes earned to a tenant; may raise NotFoundError or ConflictError."""
        ...


RequestId = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]
Seconds = Annotated[int, Meta(ge=1, le=10**9)]


class CreditBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST credits."""

    seconds: Annotated[int, Meta(ge=-(10**9), le=10**9)]
    reason: Literal["credit", "adjustment", "refund"]
    request_id: RequestId


class TransferBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST transfer."""

    tenant_id: Annotated[str, Meta(min_length=1, max_length=200)]
    seconds: Seconds
    request_id: RequestId


class Asked(NamedTuple):
    """Which usage is asked for: hours [begin, end) since 1970."""

    begin: int
    end: int
    granularity: str
    by_key: bool


def add_usage_routes(
    app: QuartTrio, protect: Protect, books: Books, clock: Callable[[], float] = time.time
) -> None:
    """Let tenants see what they used; `clock` gives Unix s."""
    answer_refusals(app)

    @app.get("/v1/usage")
    @protect(Scope.USAGE)
    async def usage() -> Response:
        """Counters of the caller's tenant, by hour, day or month."""
        caller: Caller = g.caller
        return await _usage(books, caller.tenant, clock())


class Counting(Protocol):
    """Where requests are counted."""

    def request(self, tenant_id: str, key_id: str, *, failed: bool = False) -> None:
        """A request was answered."""
        ...


def count_requests(app: QuartTrio, books: Counting) -> None:
    """Count every request of a known caller; it failed if the server could not do what was asked."""

    @app.after_request
    async def count(answer: Response) -> Response:
        who: Caller | None = g.get("caller")
        if who is not None:
            books.request(who.tenant.id, who.key_id, failed=answer.status_code >= 500)
        return answer


def add_admin_usage_routes(
    app: QuartTrio,
    protect: Protect,
    books: Books,
    tenant_of: Callable[[str], Tenant | None],
    clock: Callable[[], float] = time.time,
    once: Callable[[_Plain], _Plain] = lambda view: view,
) -> None:
    """Let operators see usage and ledger of every tenant, change balances, and pay owners of nodes.

    `once` honours Idempotency-Key.
    """
    answer_refusals(app)

    def found(tenant_id: str) -> Tenant:
        tenant = tenant_of(tenant_id)
        if tenant is None:
            raise Problem(404, "tenant_not_found", f"There is no tenant {tenant_id[:100]!r}.")
        return tenant

    @app.get("/admin/v1/tenants/<tenant_id>/usage")
    @protect(Scope.ADMIN_USAGE)
    async def tenant_usage(tenant_id: str) -> Response:
        """As GET /v1/usage of that tenant."""
        return await _usage(books, found(tenant_id), clock())

    @app.get("/admin/v1/tenants/<tenant_id>/ledger")
    @protect(Scope.ADMIN_USAGE)
    async def tenant_ledger(tenant_id: str) -> Response:
        """The ledger of a tenant, the latest line first."""
        tenant, asked = found(tenant_id), query(("limit", "cursor"))
        limit = limit_of(asked)
        lines = await books.lines(tenant.id, number_of(asked), limit + 1)
        return jsonify(
            items=[_shown(line) for line in lines[:limit]],
            next_cursor=cursor(lines[limit - 1].ledger_id) if len(lines) > limit else None,
            balance_seconds=books.balance_seconds(tenant.id),
        )

    @app.post("/admin/v1/tenants/<tenant_id>/credits")
    @protect(Scope.ADMIN_BILLING)
    @once
    async def credits(tenant_id: str) -> Response:
        """Change a tenant's balance; the same `request_id` again changes nothing."""
        tenant, body = found(tenant_id), await json_body(CreditBody)
        if not body.seconds or (body.seconds < 0 and body.reason != "adjustment"):
            problem = "credit and refund take more than 0, adjustment anything but 0"
            raise Problem.wrong_field("seconds", problem)
        line = await books.credit(tenant.id, body.seconds, body.reason, actor(), body.request_id)
        return jsonify(_shown(line))

    @app.get("/admin/v1/node-credits")
    @protect(Scope.ADMIN_USAGE)
    async def node_credits() -> Response:
        """What every owner of nodes has earned, in order of their names."""
        asked = query(("limit", "cursor"))
        limit = limit_of(asked)
        accounts = await books.node_accounts(cursor_of(asked), limit + 1)
        return jsonify(
            items=[_shown_account(account) for account in accounts[:limit]],
            next_cursor=cursor(accounts[limit - 1].owner) if len(accounts) > limit else None,
        )

    @app.get("/admin/v1/node-credits/<path:owner>")
    @protect(Scope.ADMIN_USAGE)
    async def node_credit(owner: str) -> Response:
        """What one owner of nodes has earned, and where it went."""
        account = await books.node_account(owner)
        lines = await books.lines(f"node:{owner}", None, SHOWN_TRANSFERS)
        return jsonify(**_shown_account(account), transfers=[_shown(line) for line in lines])

    @app.post("/admin/v1/node-credits/<path:owner>/transfer")
    @protect(Scope.ADMIN_BILLING)
    async def transfer(owner: str) -> Response:
        """Give what an owner of nodes earned to a tenant; the same `request_id` again changes nothing."""
        body = await json_body(TransferBody)
        tenant = found(body.tenant_id)
        account, line = await books.transfer(owner, tenant.id, body.seconds, actor(), body.request_id)
        return jsonify(account=_shown_account(account), line=_shown(line))


async def _usage(books: Books, tenant: Tenant, now: float) -> Response:
    asked = asked_for(query(("from", "to", "granularity", "group_by")), now)
    width = 1 if asked.granularity == "hour" else DAY_HOURS
    steps, billed_s = await books.report(tenant.id, asked.begin, asked.end, width)
    answer = {
        "from": _time(asked.begin * HOUR_S),
        "to": _time(asked.end * HOUR_S),
        "granularity": asked.granularity,
        **summed(steps, asked.granularity, by_key=asked.by_key),
    }
    answer["totals"] |= {"billed_seconds": billed_s, "billed_minutes": billed_s // 60}
    if tenant.billing_mode is not BillingMode.NONE:
        answer["balance_seconds"] = books.balance_seconds(tenant.id)
    return jsonify(answer)


def asked_for(given: Mapping[str, str], now: float) -> Asked:
    """What a query asks for, this month by days if it says nothing; raises Problem 422."""
    granularity = given.get("granularity", "day")
    if granularity not in ("hour", "day", "month"):
        raise Problem.wrong_field("granularity", "allowed is hour, day or month")
    if given.get("group_by", "key") != "key":
        raise Problem.wrong_field("group_by", "allowed is key; leave it out for all keys together")
    end = moment_of("to", given["to"]) if "to" in given else now
    start = datetime.fromtimestamp(end, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    begin = moment_of("from", given["from"]) if "from" in given else start.timestamp()
    if begin > end:
        raise Problem.wrong_field("from", "must not be later than to")
    if end - begin > MAX_RANGE_DAYS * DAY_HOURS * HOUR_S:
        raise Problem.wrong_field("from", f"at most {MAX_RANGE_DAYS} days before to; ask for less at once")
    return Asked(int(begin // HOUR_S), int(-(-end // HOUR_S)), granularity, "group_by" in given)


def summed(steps: list[Step], granularity: str, *, by_key: bool) -> dict[str, Any]:
    """`items` by time, and by key if so asked, and their `totals`."""
    items: dict[tuple[str, str], dict[str, Any]] = {}
    totals = _counters({})
    for key_id, hour, counts in steps:
        start = datetime.fromtimestamp(hour * HOUR_S, UTC)
        if granularity == "month":
            start = start.replace(day=1)
        name = _time(start.timestamp()), key_id if by_key else ""
        if name not in items:
            items[name] = {"start": name[0], **({"key_id": key_id} if by_key else {}), **_counters({})}
        for counter, number in _counters(counts).items():
            items[name][counter] += number
            totals[counter] += number
    return {"items": [items[name] for name in sorted(items)], "totals": totals}


def _counters(counts: Counts) -> Counts:
    """Counters by the names of answers."""
    shown = {name: counts.get(kept, 0) for name, kept in COUNTERS.items()}
    return shown | {"gpu_active_time_ms": sum(shown[f"{stage}_time_ms"] for stage in ("asr", "nmt", "tts"))}


def _shown(line: Line) -> dict[str, Any]:
    shown = {name: getattr(line, name) for name in line.__struct_fields__ if name != "account"}
    return {**shown, "tenant_id": line.account, "created_at": told(line.created_at)}


def _shown_account(account: NodeAccount) -> dict[str, Any]:
    return {
        "owner": account.owner,
        "credited_seconds": account.credited_seconds,
        "transferred_seconds": account.transferred_seconds,
        "balance_seconds": account.balance_seconds,
    }


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
