"""The door of `/v1/stream`: keys, tickets, pages, and the first message (gateway 6.1, 11.4)."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections import Counter
from hashlib import sha256

import pytest
from house import AWAY, EPOCH, House
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from linguad.config.gateway import Gateway
from linguad.core.tenant import ADMIN_SCOPES, DEFAULT_SCOPES, Caller, Scope, Status
from linguad.errors import LinguadError
from linguad.gateway.access.protect import Entry
from linguad.gateway.access.tickets import Tickets
from linguad.net.peer import Peer
from linguad.web.problems import Problem

PAGE, OTHER_PAGE = "https://app.example.com", "https://other.example.com"
SPEAKS = (b"sec-websocket-protocol", b"lingua.v1")


def bearer(key: str) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {key}".encode()


def page(origin: str) -> tuple[bytes, bytes]:
    return b"origin", origin.encode()


def ticket_of(house: House, key: str, origin: str | None = None) -> str:
    return house.tickets.issue(house.admission.identify(key, AWAY), origin, 60.0)


async def refused(house: House, *headers: tuple[bytes, bytes], query: str = "", peer: Peer = AWAY) -> str:
    with pytest.raises(Problem) as caught:
        await house.door.upgrade(headers, query, peer)
    return f"{caught.value.status} {caught.value.code}"


async def let_in(house: House, *headers: tuple[bytes, bytes], query: str = "") -> Caller:
    caller = (await house.door.upgrade(headers, query, AWAY)).caller
    assert caller is not None
    return caller


async def test_a_key_opens_the_door() -> None:
    house = House()
    key = house.keys.add()
    assert (await let_in(house, bearer(key))).tenant.id == "acme"
    in_protocol = urlsafe_b64encode(key.encode()).rstrip(b"=")
    entry = await house.door.upgrade([(SPEAKS[0], SPEAKS[1] + b", bearer." + in_protocol)], "", AWAY)
    assert entry.subprotocol == "lingua.v1"
    assert entry.caller is not None


async def test_each_upgrade_costs_one_request() -> None:
    house = House()
    key = house.keys.add(burst=3, max_requests_per_second=1.0)
    ticket = ticket_of(house, key)
    await let_in(house, bearer(key))
    await let_in(house, query=f"ticket={ticket}")
    await let_in(house, bearer(key))
    assert await refused(house, bearer(key)) == "429 rate_limited"


async def test_who_may_not() -> None:
    house = House(require_https=True)
    key = house.keys.add("acme", frozenset({Scope.TRANSLATE}))
    off = house.keys.add("off", status=Status.DISABLED)
    assert await refused(house) == "401 unauthorized"
    assert await refused(house, bearer("lk_test_wrong")) == "401 invalid_credentials"
    assert await refused(house, bearer(off)) == "403 tenant_disabled"
    assert await refused(house, bearer(key)) == "403 insufficient_scope"
    assert await refused(house, bearer(key), page(PAGE)) == "403 origin_not_allowed"
    assert await refused(house, bearer(key), query="ticket=tk_x") == "400 multiple_credentials"
    assert await refused(house, bearer(key), peer=Peer("198.51.100.7")) == "403 https_required"


async def test_a_key_in_the_address_only_if_allowed() -> None:
    house = House()
    query = f"api_key={house.keys.add()}"
    assert await refused(house, query=query) == "401 unauthorized"
    house = House(stream_allow_query_api_key=True)
    assert (await let_in(house, query=f"api_key={house.keys.add()}")).tenant.id == "acme"


class TestFirstMessage:
    async def entry(self, house: House, *headers: tuple[bytes, bytes]) -> Entry:
        entry = await house.door.upgrade([SPEAKS, *headers], "", AWAY)
        assert (entry.caller, entry.subprotocol) == (None, "lingua.v1")
        return entry

    async def test_is_a_key_or_a_ticket(self) -> None:
        house = House()
        key = house.keys.add()
        for token in (key, ticket_of(house, key)):
            assert (await house.door.first_message(token, await self.entry(house), AWAY)).tenant.id == "acme"

    @pytest.mark.parametrize("token", ["", "lk_test_x", "tk_x", "ключ", "\ud800"])
    async def test_may_be_wrong(self, token: str) -> None:
        house = House()
        with pytest.raises(Problem) as caught:
            await house.door.first_message(token, await self.entry(house), AWAY)
        assert caught.value.status == 401

    async def test_of_a_page_that_may_not(self) -> None:
        house = House()
        key = house.keys.add()
        with pytest.raises(Problem) as caught:
            await house.door.first_message(key, await self.entry(house, page(PAGE)), AWAY)
        assert caught.value.code == "origin_not_allowed"

    async def test_of_a_page_of_this_server(self) -> None:
        house = House()
        own = f"{AWAY.scheme}://api.example.com"
        entry = await self.entry(house, page(own), (b"host", b"api.example.com"))
        assert (await house.door.first_message(house.keys.add(), entry, AWAY)).tenant.id == "acme"


class NoAnswer:
    """A place for tickets that takes them, and whose answers are lost."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, name: str, ticket: bytes, ttl_s: float) -> None:
        self.kept[name] = ticket
        raise LinguadError("no answer")

    async def take(self, name: str) -> bytes | None:
        raise LinguadError("no answer")


class TestTickets:
    async def test_work_once(self) -> None:
        house = House()
        ticket = ticket_of(house, house.keys.add("acme", DEFAULT_SCOPES | ADMIN_SCOPES))
        who = await let_in(house, query=f"ticket={ticket}")
        assert who.scopes == DEFAULT_SCOPES - {Scope.TICKETS}
        assert house.admission.holds(who)
        assert await refused(house, query=f"ticket={ticket}") == "401 invalid_credentials"
        assert len(house.tickets) == 0

    @pytest.mark.parametrize("origin", [OTHER_PAGE, None])
    async def test_work_from_their_page_only(self, origin: str | None) -> None:
        house = House(cors_allowed_origins=(PAGE, OTHER_PAGE))
        key = house.keys.add()
        assert await let_in(house, page(PAGE), query=f"ticket={ticket_of(house, key, PAGE)}")
        ticket = ticket_of(house, key, PAGE + "/")
        headers = [page(origin)] if origin else []
        assert await refused(house, *headers, query=f"ticket={ticket}") == "403 origin_not_allowed"
        assert await refused(house, page(PAGE), query=f"ticket={ticket}") == "401 invalid_credentials"

    async def test_end(self) -> None:
        house = House()
        ticket = ticket_of(house, house.keys.add())
        house.now += 60.0
        assert await refused(house, query=f"ticket={ticket}") == "401 invalid_credentials"

    async def test_end_with_their_key_and_tenant(self) -> None:
        house = House()
        key, other = house.keys.add("acme"), house.keys.add("other")
        first, second = ticket_of(house, key), ticket_of(house, other)
        house.keys.change_key(key, revoked_at=EPOCH)
        house.keys.change_tenant("other", status=Status.DISABLED)
        assert await refused(house, query=f"ticket={first}") == "401 invalid_credentials"
        assert await refused(house, query=f"ticket={second}") == "403 tenant_disabled"

    async def test_work_once_also_if_nobody_knows_whether_all_have_them(self) -> None:
        house, shared = House(), NoAnswer()
        house.tickets.share(shared)
        who = house.admission.identify(house.keys.add(), AWAY)
        ticket = await house.tickets.give(who, None, 60.0)
        assert await let_in(house, query=f"ticket={ticket}")
        assert sha256(ticket.encode()).hexdigest() not in shared.kept
        assert len(shared.kept) == 1
        assert len(house.tickets) == 0

    async def test_who_guesses_is_stopped(self) -> None:
        house = House()
        ticket = ticket_of(house, house.keys.add())
        for _ in range(20):
            assert await refused(house, query="ticket=tk_wrong") == "401 invalid_credentials"
        assert await refused(house, query=f"ticket={ticket}") == "429 rate_limited"

    def test_are_not_too_many(self) -> None:
        house = House(max_tickets=5)
        key, other = house.keys.add("acme"), house.keys.add("other")
        for _ in range(5):
            ticket_of(house, key)
        with pytest.raises(Problem) as caught:
            ticket_of(house, key)
        assert (caught.value.status, caught.value.code) == (429, "too_many_tickets")
        assert caught.value.headers == {"Retry-After": "60"}
        ticket_of(house, other)
        house.now += 60.0
        ticket_of(house, key)
        assert len(house.tickets) == 5


class TicketOffice(RuleBasedStateMachine):
    """Tickets against a plain table of when each ends."""

    def __init__(self) -> None:
        super().__init__()
        self.house = House()
        self.callers = [
            self.house.admission.identify(self.house.keys.add(name), AWAY) for name in ("one", "other")
        ]
        self.now = 0.0
        self.tickets = Tickets(Gateway(max_tickets=3), lambda: self.now)
        self.good: dict[str, tuple[str, float]] = {}
        self.used: list[str] = []

    def alive(self) -> Counter[str]:
        return Counter(tenant for tenant, until in self.good.values() if until > self.now)

    @rule(who=st.integers(0, 1), ttl_s=st.sampled_from([1.0, 2.0, 120.0]))
    def issue(self, who: int, ttl_s: float) -> None:
        caller = self.callers[who]
        try:
            text = self.tickets.issue(caller, None, ttl_s)
        except Problem:
            # Those that ended are only looked for once a second.
            told = [tenant for tenant, _ in self.good.values()]
            assert told.count(caller.tenant.id) >= 3
        else:
            assert self.alive()[caller.tenant.id] < 3
            self.good[text] = caller.tenant.id, self.now + ttl_s

    @rule(number=st.integers(0, 10))
    def redeem(self, number: int) -> None:
        if self.good:
            text = list(self.good)[number % len(self.good)]
            tenant, until = self.good.pop(text)
            self.used.append(text)
            if until > self.now:
                assert self.tickets.redeem(text, None).tenant.id == tenant
            else:
                with pytest.raises(Problem):
                    self.tickets.redeem(text, None)

    @rule(number=st.integers(0, 10))
    def redeem_again(self, number: int) -> None:
        if self.used:
            with pytest.raises(Problem):
                self.tickets.redeem(self.used[number % len(self.used)], None)

    @rule(seconds=st.sampled_from([0.5, 1.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def memory_is_bounded(self) -> None:
        assert self.alive().total() <= len(self.tickets) <= 6


TestTicketOffice = TicketOffice.TestCase
TestTicketOffice.settings = settings(max_examples=50, stateful_step_count=30)
