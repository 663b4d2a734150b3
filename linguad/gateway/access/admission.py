"""Who may come in, and how often: one door for HTTP and sockets (gateway 3, 4.3).

In this order: HTTPS, key, tenant, rate, origin, scope. Nothing here reads a body. An instance alone never
waits; one of several asks the others once, through Redis, when its own limits have nothing against it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from math import ceil, inf
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import trio

from linguad import log, metrics
from linguad.config.gateway import Gateway
from linguad.core.api_key import may_be_made_up
from linguad.core.limits import Lease, Leases, Rates, Standing, Verdict, Wish, burst_of
from linguad.core.tenant import Caller, Key, Scope, Tenant
from linguad.core.tries import WrongTries
from linguad.gateway.access.credentials import wrong_credentials
from linguad.gateway.access.origins import Origins
from linguad.net.peer import Peer, origin_of
from linguad.web.problems import Problem

LONGEST_WAIT_S = 3600
"""Longest `Retry-After`, for limits that let nothing through."""

SESSION_WAIT_S = 2
"""`Retry-After` where all sessions of a tenant are in use: about as long as a short utterance takes."""

AWAY_WAIT_S = 2
"""`Retry-After` where the limits of all instances cannot be asked for: Redis comes back soon, or not soon."""

logger = log.get(__name__)


class KeyStore(Protocol):
    """All tenants and keys, at hand without waiting."""

    def lookup(self, credential: str) -> tuple[Key, Tenant] | None:
        """The key that this text is, valid or not, and its tenant; None if it is none."""
        ...

    def tenant(self, tenant_id: str) -> Tenant | None:
        """The tenant as it is now; None if there is none."""
        ...

    def tenants(self) -> list[Tenant]:
        """All of them."""
        ...

    def key(self, key_id: str) -> Key | None:
        """The key as it is now; None if there is none."""
        ...

    def used(self, key_id: str) -> None:
        """The key was used just now."""
        ...


class Budgets(Protocol):
    """What tenants have used up."""

    def refusal(self, tenant: Tenant) -> Problem | None:
        """Why a tenant can have no more for now (402 or 429); None if it can."""
        ...

    def reserve(self, tenant: Tenant, wanted_ms: int) -> AbstractContextManager[None]:
        """Hold so much of the budget while it is used; raises Problem if it is not there."""
        ...


class Shared(Protocol):
    """The limits of all instances together."""

    async def ask(self, wish: Wish) -> Verdict | None:
        """What they say; None if they cannot be asked."""
        ...

    def changed(self, tenant: str) -> None:
        """A session of a tenant has ended here."""
        ...


class Unlimited:
    """Budgets of a server that neither counts nor bills."""

    def refusal(self, tenant: Tenant) -> Problem | None:
        """There is always more."""
        return None

    def reserve(self, tenant: Tenant, wanted_ms: int) -> AbstractContextManager[None]:
        """Nothing has to be held."""
        return nullcontext()


class Slot:
    """One of the sessions a tenant may have at once; given back once, at the latest by `with`."""

    def __init__(self, lease: Lease, tell: Callable[[], object]) -> None:
        """`tell` is called when it is given back."""
        self._lease = lease
        self._tell = tell
        metrics.GATEWAY_SESSIONS.inc()

    def release(self) -> None:
        """Give it back; again, and nothing happens."""
        if self._lease.release():
            metrics.GATEWAY_SESSIONS.dec()
            self._tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Admitted(NamedTuple):
    """A request that may go on."""

    headers: dict[str, str]
    """How its tenant stands, for the answer."""
    slot: Slot | None
    """For what it begins, if it wanted one and there is one."""


class Admission:
    """Mutable state: what each tenant asked for lately and has going on, and who showed wrong keys.

    Every refusal is a `Problem` with a text that is always the same and says nothing of keys.
    """

    def __init__(
        self,
        keys: KeyStore,
        settings: Gateway,
        budgets: Budgets | None = None,
        now: Callable[[], float] = trio.current_time,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`now` gives monotonic s, `wall` Unix s. Raises ConfigError if an origin in the settings is none."""
        self._keys = keys
        self._budgets = budgets or Unlimited()
        self._now = now
        self._wall = wall
        self.leases = Leases()
        """The sessions of this instance."""
        self._shared: Shared | None = None
        self._elsewhere: dict[str, int] = {}
        self.change(settings)
        self.origins = Origins(settings.cors_allowed_origins, keys.tenants, now)
        """The web pages that may call."""

    def change(self, settings: Gateway) -> None:
        """Live by other limits from now on; what was counted for them so far is forgotten."""
        pause_s = settings.failed_auth_seconds
        self._require_https = settings.require_https
        self._rates = Rates(settings.global_requests_per_second)
        self._wrong = WrongTries(settings.failed_auth_limit, pause_s, pause_s)
        self.needs_others = settings.limits_fail_mode == "closed"
        """Whether everybody is refused while the limits of all instances are not known."""

    def share(self, limits: Shared) -> None:
        """From now on limits are those of all instances together."""
        self._shared = limits

    def check_transport(self, peer: Peer) -> None:
        """Raise Problem 403 for plain HTTP where it is refused; programs on this machine may use it."""
        if self._require_https and peer.scheme != "https" and not peer.local:
            raise _refused(
                403,
                "https_required",
                "Use https; operators: the proxy in front has to be in server.trusted_proxies and to send "
                "X-Forwarded-Proto.",
            )

    def check_address(self, peer: Peer) -> None:
        """Raise Problem 429 if too many wrong keys and tickets came from this address."""
        if wait_s := self._wrong.wait_s(origin_of(peer.address), self._now()):
            raise _refused(
                429,
                "rate_limited",
                "Too many wrong credentials came from your address; wait as long as Retry-After says.",
                headers=retry_after(wait_s),
            )

    def identify(self, credential: str, peer: Peer) -> Caller:
        """Whose key this is. Raises Problem 401, 403, or 429 after too many wrong keys from one address."""
        self.check_address(peer)
        # Generated keys are such a text as well; longer ones, such as JSON Web Tokens, are not looked for.
        found = self._keys.lookup(credential) if may_be_made_up(credential) else None
        if found is None or not found[0].usable(self._wall()):
            self.failed(peer)
            raise _counted(wrong_credentials())
        key, tenant = found
        _check_active(tenant)
        self._keys.used(key.id)
        return Caller(tenant=tenant, key_id=key.id, scopes=key.scopes)

    def take_up(self, caller: Caller) -> Caller:
        """A caller of before, as key and tenant are now. Raises Problem 401 or 403 if they are not valid."""
        key, tenant = self._keys.key(caller.key_id), self._keys.tenant(caller.tenant.id)
        if key is None or tenant is None or not key.usable(self._wall()):
            raise _counted(wrong_credentials())
        _check_active(tenant)
        return Caller(tenant=tenant, key_id=key.id, scopes=caller.scopes & key.scopes)

    def failed(self, peer: Peer) -> None:
        """Somebody at this address showed a key or ticket that is not valid."""
        if self._wrong.add(origin_of(peer.address), self._now()):
            logger.warning("address_blocked", address=peer.address, forwarded=peer.forwarded)

    def holds(self, caller: Caller) -> bool:
        """Whether the caller's key and tenant are still valid; what is open long asks again and again."""
        key, tenant = self._keys.key(caller.key_id), self._keys.tenant(caller.tenant.id)
        return key is not None and key.usable(self._wall()) and tenant is not None and tenant.active

    def require(self, caller: Caller, scope: Scope) -> None:
        """Raise Problem 403 if the caller's key is not meant for this."""
        if scope not in caller.scopes:
            raise _refused(
                403,
                "insufficient_scope",
                "This key may not do that; make one with the scope in details.",
                details={"required": scope.value},
            )

    def check_origin(self, caller: Caller, origin: str | None, host: str = "") -> None:
        """Raise Problem 403 for a web page that may not call for this tenant.

        `origin` is the header `Origin`, which browsers send; a page of this server, whose scheme and host
        are `host`, may always call.
        """
        if origin is None or origin == host or self.origins.allows(caller.tenant, origin):
            return
        raise _refused(
            403,
            "origin_not_allowed",
            "This web page may not use the API; ask for its origin to be added to allowed_origins.",
        )

    async def admit(self, caller: Caller, *, opens: bool = False) -> Admitted:
        """Count one request; with `opens` take a slot in the same breath, for `session`.

        Raises Problem 429 with Retry-After, and 503 where the limits of all instances are not known and
        `gateway.limits_fail_mode` is closed.
        """
        tenant = caller.tenant
        burst = max(1, tenant.burst or burst_of(tenant.max_requests_per_second))
        standing = self._rates.take(tenant.id, burst, tenant.max_requests_per_second, self._now())
        if standing.wait_s:
            raise _too_often(standing)
        lease = self._leases_of(tenant) if opens else None
        if self._shared is None:
            return Admitted(_rate_headers(standing), self._slot(tenant, lease))
        wish = self._wish(tenant, lease, burst=burst, per_second=tenant.max_requests_per_second)
        verdict = await self._ask(tenant, wish, lease)
        if verdict is not None:
            standing = verdict.standing
        if standing.wait_s:
            self._rates.give_back(tenant.id)
            self._drop(tenant, lease)
            raise _too_often(standing)
        return Admitted(_rate_headers(standing), self._granted(tenant, lease, verdict))

    async def session(self, caller: Caller, hint: Mapping[str, Any] | None = None) -> Slot:
        """Begin a stream or job; the slot is to be released, `with` does so.

        Raises Problem 402 or 429 if the tenant has none left, or has used up what it may, 503 as `admit`;
        `hint` is added to the details of a 429.
        """
        tenant = self._keys.tenant(caller.tenant.id) or caller.tenant
        self._check_budget(tenant)
        lease = self._leases_of(tenant)
        verdict = None
        if lease is not None and self._shared is not None:
            verdict = await self._ask(tenant, self._wish(tenant, lease), lease)
        return _taken(tenant, self._granted(tenant, lease, verdict), hint)

    def begin(self, caller: Caller, slot: Slot | None, hint: Mapping[str, Any] | None = None) -> Slot:
        """Begin a translation with the slot that `admit` took. Raises as `session`."""
        tenant = self._keys.tenant(caller.tenant.id) or caller.tenant
        self._check_budget(tenant)
        return _taken(tenant, slot, hint)

    @contextmanager
    def reserved(self, caller: Caller, wanted_ms: int) -> Iterator[None]:
        """Hold speech of known length of the tenant's budget while it is translated, so that many requests at
        once cannot use up more than there is (gateway 4.3). Raises Problem 402 or 429."""
        tenant = self._keys.tenant(caller.tenant.id) or caller.tenant
        with ExitStack() as held:
            try:
                held.enter_context(self._budgets.reserve(tenant, wanted_ms))
            except Problem as problem:
                raise _counted(problem) from None
            yield

    def sessions_of(self, tenant_id: str) -> int:
        """Sessions a tenant has going on; on other instances, as many as they had when it was last asked."""
        return self.leases.used(tenant_id) + self._elsewhere.get(tenant_id, 0)

    def _check_budget(self, tenant: Tenant) -> None:
        if problem := self._budgets.refusal(tenant):
            raise _counted(problem)

    def _leases_of(self, tenant: Tenant) -> Lease | None:
        return self.leases.take(tenant.id, tenant.max_concurrent_sessions)

    def _wish(self, tenant: Tenant, lease: Lease | None, burst: int = 0, per_second: float = 0.0) -> Wish:
        sessions = 0 if lease is None else self.leases.used(tenant.id)
        most = tenant.max_concurrent_sessions
        return Wish(
            tenant=tenant.id, burst=burst, per_second=per_second, sessions=sessions, most_sessions=most
        )

    async def _ask(self, tenant: Tenant, wish: Wish, lease: Lease | None) -> Verdict | None:
        """What all instances say; None if they cannot be asked and that does no harm."""
        assert self._shared is not None, "there are others"
        try:
            verdict = await self._shared.ask(wish)
            if verdict is None and self.needs_others:
                raise _refused(
                    503,
                    "limits_unavailable",
                    "The limits of your account cannot be looked up now; try again shortly.",
                    headers=retry_after(AWAY_WAIT_S),
                )
        except BaseException:
            self._drop(tenant, lease)
            raise
        if verdict is None or not verdict.sessions_elsewhere:
            self._elsewhere.pop(tenant.id, None)
        else:
            self._elsewhere[tenant.id] = verdict.sessions_elsewhere
        return verdict

    def _granted(self, tenant: Tenant, lease: Lease | None, verdict: Verdict | None) -> Slot | None:
        if lease is not None and verdict is not None and not verdict.session:
            self._drop(tenant, lease)
            return None
        return self._slot(tenant, lease)

    def _slot(self, tenant: Tenant, lease: Lease | None) -> Slot | None:
        return None if lease is None else Slot(lease, partial(self._changed, tenant.id))

    def _drop(self, tenant: Tenant, lease: Lease | None) -> None:
        if lease is not None and lease.release():
            self._changed(tenant.id)

    def _changed(self, tenant_id: str) -> None:
        if self._shared is not None:
            self._shared.changed(tenant_id)


def retry_after(seconds: float) -> dict[str, str]:
    """The header that tells a caller when to come again, in whole seconds, at least one."""
    return {"Retry-After": str(max(1, ceil(min(seconds, LONGEST_WAIT_S))))}


def _check_active(tenant: Tenant) -> None:
    if not tenant.active:
        raise _refused(403, "tenant_disabled", "This account is disabled; ask who runs this service.")


def _too_often(standing: Standing) -> Problem:
    who = "All callers together" if standing.overall else "You"
    message = f"{who} sent too many requests at once; wait as long as Retry-After says."
    headers = _rate_headers(standing) | retry_after(standing.wait_s)
    return _refused(429, "rate_limited", message, headers=headers)


def _taken(tenant: Tenant, slot: Slot | None, hint: Mapping[str, Any] | None) -> Slot:
    if slot is None:
        raise _refused(
            429,
            "too_many_sessions",
            "All sessions of this account are in use; end one, or wait for one to end.",
            details={"max_concurrent_sessions": tenant.max_concurrent_sessions, **(hint or {})},
            headers=retry_after(SESSION_WAIT_S),
        )
    return slot


def _rate_headers(standing: Standing) -> dict[str, str]:
    full_in_s = LONGEST_WAIT_S if standing.full_in_s == inf else standing.full_in_s
    return {
        "RateLimit-Limit": str(standing.limit),
        "RateLimit-Remaining": str(standing.remaining),
        "RateLimit-Reset": str(ceil(full_in_s)),
    }


def _refused(status: int, code: str, message: str, **more: Any) -> Problem:
    return _counted(Problem(status, code, message, **more))


def _counted(problem: Problem) -> Problem:
    metrics.GATEWAY_REFUSALS.labels(problem.code).inc()
    return problem
