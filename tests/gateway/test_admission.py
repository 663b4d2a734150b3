"""Who comes in: each refusal with its status, and what is taken comes back (gateway 3.2, 4.3)."""

from __future__ import annotations

import gc
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from house import AWAY, EPOCH, House, KeyRing
from prometheus_client import REGISTRY

from linguad.config.gateway import Gateway
from linguad.core.tenant import Caller, Scope, Status, Tenant
from linguad.core.tries import MAX_ADDRESSES
from linguad.errors import ConfigError
from linguad.gateway.access.admission import Admission, Unlimited
from linguad.gateway.access.origins import Origins, is_origin
from linguad.net.peer import Peer, TrustedProxies
from linguad.web.problems import Problem

WRONG = "lk_test_aaaaaaaaaaaa_" + "w" * 43


def refused(house: House, credential: str, peer: Peer = AWAY) -> Problem:
    with pytest.raises(Problem) as caught:
        house.admission.identify(credential, peer)
    return caught.value


def known(house: House, key: str) -> Caller:
    return house.admission.identify(key, AWAY)


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_key_says_who_it_is() -> None:
    house = House()
    key = house.keys.add("acme", frozenset({Scope.USAGE}))
    who = known(house, key)
    assert (who.tenant.id, who.scopes) == ("acme", {Scope.USAGE})
    assert house.keys.uses == [who.key_id]


def test_an_operators_own_key() -> None:
    house = House()
    house.keys.add("acme")
    house.keys.own_key("correct horse battery staple")
    assert known(house, "correct horse battery staple").tenant.id == "acme"


@pytest.mark.parametrize(
    "change", [{"revoked_at": EPOCH}, {"expires_at": EPOCH + 1000.0}, {"expires_at": EPOCH}]
)
def test_a_key_that_ended(change: dict[str, Any]) -> None:
    house = House()
    key = house.keys.add()
    house.keys.change_key(key, **change)
    problem = refused(house, key)
    assert (problem.status, problem.code) == (401, "invalid_credentials")
    assert house.keys.uses == []


@pytest.mark.parametrize("credential", [WRONG, "", "x", "a" * 5000, "ключ" * 10, "a" * 9 + ".b.c" * 1])
def test_no_key_at_all(credential: str) -> None:
    problem = refused(House(), credential)
    assert (problem.status, problem.code) == (401, "invalid_credentials")
    assert problem.headers == {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    assert not credential or credential not in problem.message.split()


@pytest.mark.parametrize("status", [Status.DISABLED, Status.SUSPENDED])
def test_a_tenant_that_may_not(status: Status) -> None:
    house = House()
    key = house.keys.add(status=status)
    problem = refused(house, key)
    assert (problem.status, problem.code, problem.retryable) == (403, "tenant_disabled", False)


def test_a_scope_that_is_missing() -> None:
    house = House()
    who = known(house, house.keys.add("acme", frozenset({Scope.USAGE})))
    house.admission.require(who, Scope.USAGE)
    with pytest.raises(Problem) as caught:
        house.admission.require(who, Scope.STREAM)
    assert (caught.value.status, caught.value.code) == (403, "insufficient_scope")
    assert caught.value.details == {"required": "speech:stream"}


class TestWhoGuesses:
    def test_is_stopped_for_a_minute_whatever_he_sends(self) -> None:
        house = House()
        key = house.keys.add()
        assert {refused(house, WRONG).status for _ in range(20)} == {401}
        for credential in (WRONG, key):
            problem = refused(house, credential)
            assert (problem.status, problem.code) == (429, "rate_limited")
            assert problem.headers == {"Retry-After": "60"}
        house.admission.identify(key, Peer("198.51.100.8"))
        house.now += 59.5
        assert refused(house, key).headers == {"Retry-After": "1"}
        house.now += 0.5
        assert known(house, key).tenant.id == "acme"

    def test_is_one_network_of_the_sixth_version(self) -> None:
        house = House()
        for number in range(20):
            refused(house, WRONG, Peer(f"2001:db8:1:2::{number:x}"))
        assert refused(house, WRONG, Peer("2001:db8:1:2:ffff::1")).status == 429
        assert refused(house, WRONG, Peer("2001:db8:1:3::1")).status == 401

    def test_is_nobody_if_the_operator_says_so(self) -> None:
        house = House(failed_auth_limit=0)
        assert {refused(house, WRONG).status for _ in range(100)} == {401}

    def test_does_not_fill_the_memory(self) -> None:
        house = House()
        tracemalloc.start()
        try:
            for number in range(2 * MAX_ADDRESSES):
                house.admission.failed(Peer(f"10.1.{number >> 8}.{number & 255}"))
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            for number in range(10_000):
                with suppress(Problem):
                    house.admission.identify(
                        f"{WRONG[:-6]}{number:06}", Peer(f"10.2.{number >> 8}.{number & 255}")
                    )
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert house.keys.uses == []
        assert after - before < 10_000


class TestRate:
    async def test_one_too_many(self) -> None:
        house = House()
        who = known(house, house.keys.add(max_requests_per_second=100.0))
        told = [(await house.admission.admit(who)).headers for _ in range(100)]
        assert told[0] == {
            "RateLimit-Limit": "100",
            "RateLimit-Remaining": "99",
            "RateLimit-Reset": "1",
        }
        assert told[99]["RateLimit-Remaining"] == "0"
        with pytest.raises(Problem) as caught:
            await house.admission.admit(who)
        assert (caught.value.status, caught.value.code) == (429, "rate_limited")
        assert caught.value.headers == {**told[99], "Retry-After": "1"}

    @pytest.mark.parametrize(
        ("limits", "most", "wait"),
        [
            ({"max_requests_per_second": 0.1}, 1, "10"),
            ({"max_requests_per_second": 0.5, "burst": 7}, 7, "2"),
            ({"max_requests_per_second": 0.0, "burst": 0}, 1, "3600"),
        ],
    )
    async def test_of_a_tenant(self, limits: dict[str, Any], most: int, wait: str) -> None:
        house = House()
        who = known(house, house.keys.add(**limits))
        for _ in range(most):
            await house.admission.admit(who)
        with pytest.raises(Problem) as caught:
            await house.admission.admit(who)
        assert caught.value.headers["Retry-After"] == wait

    async def test_of_all_together(self) -> None:
        house = House(global_requests_per_second=2)
        one, other = known(house, house.keys.add("one")), known(house, house.keys.add("other"))
        await house.admission.admit(one)
        await house.admission.admit(one)
        with pytest.raises(Problem, match="All callers together") as caught:
            await house.admission.admit(other)
        assert caught.value.headers["RateLimit-Remaining"] == "100"
        house.now += 0.5
        await house.admission.admit(other)


class TestSessions:
    async def test_are_limited_and_come_back_once(self) -> None:
        house = House()
        who = known(house, house.keys.add(max_concurrent_sessions=2))
        before = sample("linguad_gateway_sessions")
        first, second = await house.admission.session(who), await house.admission.session(who)
        assert sample("linguad_gateway_sessions") == before + 2
        with pytest.raises(Problem) as caught:
            await house.admission.session(who, {"free_slots": 7})
        assert (caught.value.status, caught.value.code) == (429, "too_many_sessions")
        assert caught.value.details == {"max_concurrent_sessions": 2, "free_slots": 7}
        assert int(caught.value.headers["Retry-After"]) >= 1
        for _ in range(3):
            first.release()
        with suppress(KeyError), await house.admission.session(who):
            assert house.admission.sessions_of("acme") == 2
            raise KeyError
        second.release()
        assert house.admission.sessions_of("acme") == 0
        assert sample("linguad_gateway_sessions") == before

    async def test_of_now_not_of_when_the_caller_came(self) -> None:
        house = House()
        who = known(house, house.keys.add(max_concurrent_sessions=1))
        house.keys.change_tenant("acme", max_concurrent_sessions=2)
        with await house.admission.session(who), await house.admission.session(who):
            pass

    async def test_are_refused_to_who_used_up_everything(self) -> None:
        class Empty(Unlimited):
            def refusal(self, tenant: Tenant) -> Problem | None:
                return Problem(402, "insufficient_balance", "Buy more.") if tenant.id == "poor" else None

        house = House(budgets=Empty())
        rich, poor = known(house, house.keys.add("rich")), known(house, house.keys.add("poor"))
        (await house.admission.session(rich)).release()
        with pytest.raises(Problem) as caught:
            await house.admission.session(poor)
        assert caught.value.status == 402
        assert house.admission.sessions_of("poor") == 0


@pytest.mark.parametrize("what", ["key", "tenant", "time", "gone"])
def test_what_is_open_learns_that_it_must_end(what: str) -> None:
    house = House()
    key = house.keys.add()
    house.keys.change_key(key, expires_at=EPOCH + 2000.0)
    who = known(house, key)
    assert house.admission.holds(who)
    if what == "key":
        house.keys.change_key(key, revoked_at=EPOCH)
    elif what == "tenant":
        house.keys.change_tenant("acme", status=Status.DISABLED)
    elif what == "time":
        house.now += 1000.0
    else:
        house.keys.__init__()  # type: ignore[misc]
    assert not house.admission.holds(who)


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        (Peer("198.51.100.7", 1, "https"), True),
        (Peer("198.51.100.7"), False),
        (Peer("127.0.0.1"), True),
        (Peer("::1"), True),
        (Peer("127.0.0.1", forwarded=True), False),
        (TrustedProxies(["10.0.0.1"]).behind(Peer("10.0.0.1"), [(b"x-forwarded-proto", b"https")]), True),
        (TrustedProxies().behind(Peer("10.0.0.1"), [(b"x-forwarded-proto", b"https")]), False),
    ],
)
def test_plain_http_where_it_is_refused(peer: Peer, allowed: bool) -> None:
    House().admission.check_transport(peer)
    strict = House(require_https=True).admission
    if allowed:
        strict.check_transport(peer)
    else:
        with pytest.raises(Problem, match=r"server\.trusted_proxies") as caught:
            strict.check_transport(peer)
        assert (caught.value.status, caught.value.code) == (403, "https_required")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("https://everywhere.example", True),
        ("https://EVERYWHERE.example:443", True),
        ("https://own.example", True),
        ("https://here.example:8081", True),
        ("https://other.example", False),
        ("http://own.example", False),
        ("https://own.example.evil.example", False),
        ("https://own.example:8443", False),
        ("null", False),
        ("", False),
        ("*", False),
    ],
)
def test_pages_that_may_call(origin: str | None, allowed: bool) -> None:
    house = House(cors_allowed_origins=("https://everywhere.example",))
    house.keys.add("another", allowed_origins=("https://other.example",))
    who = known(house, house.keys.add(allowed_origins=("https://own.example/",)))
    if allowed:
        house.admission.check_origin(who, origin, "https://here.example:8081")
    else:
        with pytest.raises(Problem) as caught:
            house.admission.check_origin(who, origin, "https://here.example:8081")
        assert (caught.value.status, caught.value.code) == (403, "origin_not_allowed")


def test_pages_are_known_soon_after_a_tenant_names_them() -> None:
    house = House()
    origins = house.admission.origins
    assert not origins.knows("https://own.example")
    house.keys.add(allowed_origins=("https://own.example",))
    house.now += 1.0
    assert origins.knows("https://own.example")


@pytest.mark.parametrize(
    "origin", ["*", "null", "app.example.com", "https://a/b", "https://a b", "ftp://a", ""]
)
def test_what_is_no_origin_is_refused_in_the_settings(origin: str) -> None:
    assert not is_origin(origin)
    with pytest.raises(ConfigError, match=r'gateway\.cors_allowed_origins: .*"https://app\.example\.com"'):
        Admission(KeyRing(), Gateway(cors_allowed_origins=(origin,)))
    with pytest.raises(ConfigError):
        Origins([origin], list, lambda: 0.0)


@pytest.mark.parametrize("origin", ["https://a.example", "http://localhost:5173", "https://[::1]:8443"])
def test_origins(origin: str) -> None:
    assert is_origin(origin)


def test_refusals_are_counted() -> None:
    before = sample("linguad_gateway_refusals_total", code="invalid_credentials")
    refused(House(), WRONG)
    assert sample("linguad_gateway_refusals_total", code="invalid_credentials") == before + 1
