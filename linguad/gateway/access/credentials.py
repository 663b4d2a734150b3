"""What a request or an upgrade shows for itself: a key or a ticket, and in which way (gateway 3.2, 11.4)."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Iterable
from enum import StrEnum
from urllib.parse import parse_qsl

from msgspec import Struct

from linguad.web.problems import Problem

SUBPROTOCOL = "lingua.v1"
"""The one subprotocol of `/v1/stream`; who offers it without a credential sends that as first message."""

BEARER_PROTOCOL = "bearer."
"""Begin of the subprotocol that holds a key, for browsers, which cannot set headers."""

ASK_FOR_KEY = {"WWW-Authenticate": 'Bearer realm="lingua"'}
ASK_FOR_OTHER_KEY = {"WWW-Authenticate": 'Bearer error="invalid_token"'}

Headers = Iterable[tuple[bytes, bytes]]
"""Header lines of one request, names in lower case."""


class Kind(StrEnum):
    """What the value of a credential is."""

    KEY = "key"
    TICKET = "ticket"


class Credential(Struct, frozen=True):
    """A key or a ticket as it was sent, not yet checked."""

    kind: Kind
    value: str

    def __repr__(self) -> str:
        """Without the value: it may stand in a traceback."""
        return f"Credential({self.kind})"


class Upgrade(Struct, frozen=True):
    """What an upgrade to a WebSocket shows for itself."""

    credential: Credential | None
    """None: it comes as first message."""
    subprotocol: str | None
    """What is to be answered as `Sec-WebSocket-Protocol`."""


def of_request(headers: Headers) -> Credential:
    """The key of an HTTP request. Raises Problem 400 if there are several, 401 if there is none."""
    return _the_one(_bearers(headers))


def of_upgrade(headers: Headers, query: str, *, allow_query_key: bool = False) -> Upgrade:
    """The key or ticket of an upgrade, whose target had this query.

    Raises Problem 400 if there are several, 401 if there is none and the client does not speak `lingua.v1`.
    """
    headers = list(headers)
    found = _bearers(headers)
    asked = parse_qsl(query, keep_blank_values=True)
    found += [Credential(Kind.TICKET, value) for name, value in asked if name == "ticket"]
    keys = [Credential(Kind.KEY, value) for name, value in asked if name == "api_key"]
    found += keys if allow_query_key else []
    offered = _subprotocols(headers)
    found += [_from_protocol(name) for name in offered if name.startswith(BEARER_PROTOCOL)]
    subprotocol = SUBPROTOCOL if SUBPROTOCOL in offered else None
    if not found and subprotocol and not keys:
        return Upgrade(None, subprotocol)
    if not found and keys:
        raise Problem(
            401,
            "unauthorized",
            "api_key is not accepted in the address, where logs would keep it; "
            "ask POST /v1/stream/tickets for a ticket.",
            headers=ASK_FOR_KEY,
        )
    return Upgrade(_the_one(found), subprotocol)


def wrong_credentials() -> Problem:
    """The answer to a key or ticket that is not valid, whatever is wrong with it."""
    return Problem(
        401,
        "invalid_credentials",
        "This credential is unknown, revoked, used up or expired; get a new one.",
        headers=ASK_FOR_OTHER_KEY,
    )


def _the_one(found: list[Credential]) -> Credential:
    if not found:
        raise Problem(
            401, "unauthorized", "Send your API key as Authorization: Bearer KEY.", headers=ASK_FOR_KEY
        )
    if len(found) > 1:
        raise Problem(400, "multiple_credentials", "Send one credential only: a key or a ticket.")
    return found[0]


def _bearers(headers: Headers) -> list[Credential]:
    """The keys of all Authorization headers; other schemes are none."""
    found = []
    for name, line in headers:
        if name == b"authorization":
            scheme, _, value = line.strip().decode("latin-1").partition(" ")
            if scheme.lower() == "bearer" and value.strip():
                found.append(Credential(Kind.KEY, value.strip()))
    return found


def _subprotocols(headers: Headers) -> list[str]:
    lines = [line.decode("latin-1") for name, line in headers if name == b"sec-websocket-protocol"]
    return [name.strip() for name in ",".join(lines).split(",") if name.strip()]


def _from_protocol(name: str) -> Credential:
    """The key in a subprotocol; what is not base64url becomes a key that no one has."""
    text = name.removeprefix(BEARER_PROTOCOL)
    try:
        value = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
    except ValueError:
        value = ""
    return Credential(Kind.KEY, value)
