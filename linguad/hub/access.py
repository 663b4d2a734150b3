"""Who may do what at the hub, and how much of it (model-hub 10, resolution 43)."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from msgspec import Struct

from linguad.core.bucket import Bucket
from linguad.core.tenant import Key, Scope, Tenant
from linguad.hub.answers import HubProblem
from linguad.metrics import HUB_DOWNLOADS
from linguad.net.peer import Peer, is_operator_here

NODE_ID = "x-node-id"
"""Header by which a node may say who it is, so that nodes behind one address count apart."""

BURST_SECONDS = 4
"""So many seconds' worth of requests may come at once, as they do when many nodes start together."""

MAX_BUCKETS = 10_000
RETRY_SECONDS = 2

_SANE_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


class KeyStore(Protocol):
    """Where keys are known."""

    def lookup(self, credential: str, /) -> tuple[Key, Tenant] | None:
        """The key of a credential and its tenant; None if there is none."""


class NoKeys:
    """For a hub without a store: only the admin token opens anything."""

    def lookup(self, credential: str, /) -> tuple[Key, Tenant] | None:
        """Nothing is known."""
        return None


class Who(Struct, frozen=True):
    """Who asks."""

    name: str
    """For limits and records: `key:ID`, `node:ID`, `admin` or the address."""
    address: str
    key_id: str = ""
    scopes: frozenset[str] = frozenset()
    operator: bool = False

    def may(self, scope: Scope) -> bool:
        """Whether a key opens this."""
        return self.operator or scope in self.scopes


class Access:
    """Turns a request into who asks; times are Unix seconds."""

    def __init__(
        self, keys: KeyStore, admin_token: str, *, public_read: bool, now: Callable[[], float]
    ) -> None:
        self._keys = keys
        self._admin = admin_token
        self._public_read = public_read
        self._now = now

    def identify(self, headers: Mapping[str, str], peer: Peer) -> Who:
        """Who it is. Raises HubProblem for a credential that opens nothing."""
        scheme, _, credential = headers.get("authorization", "").partition(" ")
        credential = credential.strip()
        if not credential:
            operator = is_operator_here(peer, headers.get("host", ""), headers.get("origin"))
            if NODE_ID in headers and _SANE_NODE.fullmatch(headers[NODE_ID]):
                return Who(f"node:{headers[NODE_ID]}", peer.address, operator=operator)
            return Who(peer.address, peer.address, operator=operator)
        if scheme.lower() == "bearer":
            if self._admin and hmac.compare_digest(credential.encode(), self._admin.encode()):
                return Who("admin", peer.address, operator=True)
            found = self._keys.lookup(credential)
            if found is not None and found[0].usable(self._now()) and found[1].active:
                key = found[0]
                return Who(f"key:{key.id}", peer.address, key.id, frozenset(key.scopes))
        raise _unauthorized(
            "The key is unknown, expired or revoked; send Authorization: Bearer with another."
        )

    def reader(self, headers: Mapping[str, str], peer: Peer) -> Who:
        """Who wants to read. Raises HubProblem if he may not."""
        if self._public_read:
            # a key for something else, or one that expired, must not keep a node from what all may have
            with suppress(HubProblem):
                return self.identify(headers, peer)
            return Who(peer.address, peer.address)
        return self.require(headers, peer, Scope.HUB_READ)

    def require(self, headers: Mapping[str, str], peer: Peer, scope: Scope) -> Who:
        """Who it is, if a key opens this. Raises HubProblem."""
        who = self.identify(headers, peer)
        if who.may(scope):
            return who
        if not who.key_id:
            raise _unauthorized(f"Send Authorization: Bearer with a key that has the scope {scope.value}.")
        raise HubProblem(403, "insufficient_scope", f"The key lacks the scope {scope.value}.")


def _unauthorized(message: str) -> HubProblem:
    return HubProblem(
        401, "unauthorized", message, headers={"WWW-Authenticate": 'Bearer realm="linguad hub"'}
    )


class Downloads:
    """Counts downloads that are under way: of everybody, of each caller, of each address without a key."""

    def __init__(self, most: int, per_caller: int, per_address: int) -> None:
        self._most = most
        self._per_caller = per_caller
        self._per_address = per_address
        self._open: dict[str, int] = {}
        self._all = 0

    def begin(self, who: Who) -> Callable[[], None]:
        """Take a place and return what gives it back. Raises HubProblem 503 when there is none."""
        places = {who.name: self._per_address if who.name == who.address else self._per_caller}
        if not who.key_id and not who.operator:
            # a node id is only a claim: it makes no more room for an address
            places[who.address] = self._per_address
        if self._all >= self._most or any(self._open.get(name, 0) >= most for name, most in places.items()):
            raise HubProblem(
                503,
                "too_many_downloads",
                "Too many downloads at once; try again.",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )
        for name in places:
            self._open[name] = self._open.get(name, 0) + 1
        self._all += 1
        HUB_DOWNLOADS.inc()

        def end() -> None:
            for name in places:
                self._open[name] -= 1
                if not self._open[name]:
                    del self._open[name]
            self._all -= 1
            HUB_DOWNLOADS.dec()

        return end

    def __len__(self) -> int:
        return self._all


class Rates:
    """How often each caller may ask for lists and details."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._buckets: dict[str, Bucket] = {}

    def take(self, who: Who, now: float) -> None:
        """Count a request (monotonic s). Raises HubProblem 429 when there are too many."""
        bucket = self._buckets.pop(who.name, None)
        if bucket is None:
            bucket = Bucket(max(1, round(self._per_second * BURST_SECONDS)), self._per_second)
            if len(self._buckets) >= MAX_BUCKETS:
                # whoever asked last longest ago has a full one again anyway
                del self._buckets[next(iter(self._buckets))]
        self._buckets[who.name] = bucket
        if not bucket.take(now):
            raise HubProblem(
                429,
                "rate_limited",
                "Too many requests; slow down.",
                headers={"Retry-After": "1"},
            )
