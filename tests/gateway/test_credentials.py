"""What a request shows for itself."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from linguad.gateway.access.credentials import Credential, Kind, Upgrade, of_request, of_upgrade
from linguad.web.problems import Problem

KEY = "lk_test_aaaaaaaaaaaa_" + "s" * 43
IN_PROTOCOL = b"bearer." + urlsafe_b64encode(KEY.encode()).rstrip(b"=")
BEARER = (b"authorization", b"Bearer " + KEY.encode())
PROTOCOL = b"sec-websocket-protocol"


@pytest.mark.parametrize("line", ["Bearer {}", "bearer {}", "BEARER  {}", "  Bearer {} "])
def test_bearer(line: str) -> None:
    headers = [(b"host", b"x"), (b"authorization", line.format(KEY).encode())]
    assert of_request(headers) == Credential(Kind.KEY, KEY)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Basic abc")],
        [(b"authorization", KEY.encode())],
        [(b"x-api-key", KEY.encode())],
    ],
)
def test_no_key(headers: list[tuple[bytes, bytes]]) -> None:
    for ask in (of_request, lambda headers: of_upgrade(headers, "")):
        with pytest.raises(Problem) as caught:
            ask(headers)
        assert (caught.value.status, caught.value.code) == (401, "unauthorized")
        assert caught.value.headers == {"WWW-Authenticate": 'Bearer realm="lingua"'}


def test_two_keys() -> None:
    with pytest.raises(Problem) as caught:
        of_request([BEARER, BEARER])
    assert (caught.value.status, caught.value.code) == (400, "multiple_credentials")


@pytest.mark.parametrize(
    ("headers", "query", "found"),
    [
        ([BEARER], "", Upgrade(Credential(Kind.KEY, KEY), None)),
        ([], "a=1&ticket=tk_x%2Dy", Upgrade(Credential(Kind.TICKET, "tk_x-y"), None)),
        ([], f"api_key={KEY}", Upgrade(Credential(Kind.KEY, KEY), None)),
        (
            [(PROTOCOL, b"lingua.v1, " + IN_PROTOCOL)],
            "",
            Upgrade(Credential(Kind.KEY, KEY), "lingua.v1"),
        ),
        (
            [(PROTOCOL, IN_PROTOCOL), (PROTOCOL, b"lingua.v1")],
            "",
            Upgrade(Credential(Kind.KEY, KEY), "lingua.v1"),
        ),
        ([(PROTOCOL, b"lingua.v1")], "", Upgrade(None, "lingua.v1")),
        (
            [(PROTOCOL, b"lingua.v1")],
            "ticket=tk_x",
            Upgrade(Credential(Kind.TICKET, "tk_x"), "lingua.v1"),
        ),
        ([(PROTOCOL, b"bearer.!")], "", Upgrade(Credential(Kind.KEY, ""), None)),
        ([], "ticket=", Upgrade(Credential(Kind.TICKET, ""), None)),
    ],
)
def test_ways_of_an_upgrade(headers: list[tuple[bytes, bytes]], query: str, found: Upgrade) -> None:
    assert of_upgrade(headers, query, allow_query_key=True) == found


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([BEARER], "ticket=tk_x"),
        ([BEARER, (PROTOCOL, IN_PROTOCOL)], ""),
        ([], "ticket=tk_x&ticket=tk_x"),
        ([], f"ticket=tk_x&api_key={KEY}"),
    ],
)
def test_several_ways_at_once(headers: list[tuple[bytes, bytes]], query: str) -> None:
    with pytest.raises(Problem) as caught:
        of_upgrade(headers, query, allow_query_key=True)
    assert (caught.value.status, caught.value.code) == (400, "multiple_credentials")


@pytest.mark.parametrize("headers", [[], [(PROTOCOL, b"lingua.v1")]])
def test_key_in_the_address_is_refused_with_the_cure(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Problem, match="/v1/stream/tickets") as caught:
        of_upgrade(headers, f"api_key={KEY}")
    assert (caught.value.status, caught.value.code) == (401, "unauthorized")
    assert KEY not in str(caught.value)


@given(
    headers=st.lists(
        st.tuples(st.sampled_from([b"authorization", PROTOCOL]), st.binary(max_size=30)), max_size=4
    ),
    query=st.text(max_size=40),
)
@example([(PROTOCOL, b"bearer.\xff")], "ticket=%ff")
@example([(PROTOCOL, b"bearer.gICA")], "")
def test_anything_is_a_credential_or_a_problem(headers: list[tuple[bytes, bytes]], query: str) -> None:
    with suppress(Problem):
        found = of_upgrade(headers, query, allow_query_key=True)
        assert found.credential is not None or found.subprotocol


def test_a_credential_does_not_show_itself() -> None:
    assert KEY not in repr(Upgrade(Credential(Kind.KEY, KEY), None))
