"""Who the peer is: forwarding headers, PROXY headers, and that nobody can spoof either."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from linguad.errors import LinguadError
from linguad.net.peer import (
    V2_SIGNATURE,
    Headers,
    Peer,
    ProxyHeader,
    TrustedProxies,
    parse_address,
    parse_proxy_header,
)

PROXIES = TrustedProxies(["10.0.0.0/8", "fd00::/8", "192.0.2.7"])
addresses = st.ip_addresses().map(str)
trusted = st.ip_addresses(network="10.0.0.0/8").map(str) | st.ip_addresses(network="fd00::/8").map(str)
public = st.ip_addresses(network="198.51.100.0/24").map(str) | st.ip_addresses(network="2001:db8::/32").map(
    str
)
ports = st.integers(0, 65535)
junk = st.text(st.characters(codec="latin-1", exclude_characters=",\r\n"), max_size=40)


def forwarded_for(*hops: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"x-forwarded-for", ", ".join(hops).encode("latin-1"))]


@given(st.lists(public | junk, max_size=5), public)
def test_header_from_elsewhere_changes_nothing(hops: list[str], address: str) -> None:
    peer = PROXIES.peer(address, 1)
    headers = [*forwarded_for(*hops), (b"x-forwarded-proto", b"https"), (b"x-real-ip", b"10.0.0.1")]
    assert PROXIES.behind(peer, headers) == Peer(peer.address, 1, "http", forwarded=True)


@given(st.lists(junk | trusted, max_size=4), public, st.lists(trusted, max_size=4), trusted)
def test_client_is_the_rightmost_hop_that_is_not_trusted(
    spoofed: list[str], client: str, proxies: list[str], direct: str
) -> None:
    peer = PROXIES.behind(PROXIES.peer(direct, 1), forwarded_for(*spoofed, client, *proxies))
    assert peer.address == client
    assert peer.forwarded
    assert peer.trusted


@given(st.lists(trusted, min_size=1, max_size=4), trusted)
def test_all_hops_trusted_means_the_first(hops: list[str], direct: str) -> None:
    assert PROXIES.behind(PROXIES.peer(direct, 1), forwarded_for(*hops)).address == hops[0]


@given(trusted, st.lists(junk, max_size=3))
def test_junk_stops_at_the_last_known_hop(direct: str, hops: list[str]) -> None:
    peer = PROXIES.behind(PROXIES.peer(direct, 1), forwarded_for(*hops, "unknown"))
    assert peer.address == direct


@given(public, ports)
def test_hop_may_have_a_port(client: str, port: int) -> None:
    text = f"[{client}]:{port}" if ":" in client else f"{client}:{port}"
    peer = PROXIES.behind(PROXIES.peer("10.1.1.1", 1), forwarded_for(text))
    assert (peer.address, peer.port) == (client, port)


@pytest.mark.parametrize(
    ("hops", "schemes", "expected"),
    [
        (["198.51.100.1"], b"https", "https"),
        (["198.51.100.1"], b"HTTPS", "https"),
        (["198.51.100.1"], b"http", "http"),
        (["198.51.100.1"], b"https, http", "http"),  # the client spoofed the first one
        (["198.51.100.1", "10.0.0.2"], b"https, http", "https"),  # TLS ends at the outer proxy
        (["198.51.100.1", "10.0.0.2"], b"https", "https"),  # only one of the proxies speaks
        ([], b"https", "https"),
        (["198.51.100.1"], b"gopher", "http"),
    ],
)
def test_scheme_is_that_between_the_client_and_its_proxy(
    hops: list[str], schemes: bytes, expected: str
) -> None:
    headers: Headers = [*forwarded_for(*hops), (b"x-forwarded-proto", schemes)]
    if not hops:
        headers = [(b"x-forwarded-proto", schemes)]
    assert PROXIES.behind(PROXIES.peer("10.0.0.1", 1), headers).scheme == expected


def test_several_header_lines_are_one_list() -> None:
    headers = [(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-for", b"198.51.100.4, 10.0.0.9")]
    assert PROXIES.behind(PROXIES.peer("10.0.0.1", 1), headers).address == "198.51.100.4"


def test_no_header_no_change() -> None:
    peer = PROXIES.peer("10.0.0.1", 5)
    assert PROXIES.behind(peer, [(b"host", b"x")]) is peer


@pytest.mark.parametrize(
    ("address", "headers", "local"),
    [
        ("127.0.0.1", [], True),
        ("::1", [], True),
        ("::ffff:127.0.0.1", [], True),
        ("198.51.100.1", [], False),
        ("127.0.0.1", [(b"x-forwarded-for", b"127.0.0.1")], False),
        ("127.0.0.1", [(b"forwarded", b"for=1.2.3.4")], False),
        ("127.0.0.1", [(b"x-real-ip", b"1.2.3.4")], False),
    ],
)
@pytest.mark.parametrize("proxies", [TrustedProxies(), TrustedProxies(["127.0.0.0/8", "::1"])])
def test_only_a_direct_program_on_this_machine_is_local(
    address: str, headers: Headers, local: bool, proxies: TrustedProxies
) -> None:
    assert proxies.behind(proxies.peer(address, 1), headers).local == local


@pytest.mark.parametrize("text", ["10.0.0.0/33", "example.org", "", "10.0.0.1/8", "1.2.3"])
def test_wrong_network_is_named(text: str) -> None:
    with pytest.raises(LinguadError, match="CIDR"):
        TrustedProxies([text])


@given(addresses)
@example("::ffff:1.2.3.4")
def test_contains_agrees_with_the_networks(address: str) -> None:
    inside = TrustedProxies([f"{address}"])
    assert address in inside
    assert (address in TrustedProxies()) is False
    assert "nonsense" not in inside


@pytest.mark.parametrize(
    ("text", "expected"),
    [("::ffff:1.2.3.4", "1.2.3.4"), ("fe80::1%eth0", "fe80::1"), ("1.2.3.4", "1.2.3.4"), ("x", None)],
)
def test_parse_address(text: str, expected: str | None) -> None:
    assert parse_address(text) == (ip_address(expected) if expected else None)


def v1(source: str, port: int) -> bytes:
    family = "TCP6" if ":" in source else "TCP4"
    other = "::1" if ":" in source else "10.0.0.1"
    return f"PROXY {family} {source} {other} {port} 443\r\n".encode()


def v2(source: str, port: int, tls: bool = False, command: int = 1, extra: bytes = b"") -> bytes:
    packed = ip_address(source).packed
    family = 0x11 if len(packed) == 4 else 0x21
    body = packed + bytes(len(packed)) + port.to_bytes(2) + (443).to_bytes(2) + extra
    if tls:
        body += b"\x20\x00\x05\x01\x00\x00\x00\x00"
    return V2_SIGNATURE + bytes([0x20 | command, family]) + len(body).to_bytes(2) + body


@given(public, ports, st.binary(max_size=50))
def test_v1_at_any_split(source: str, port: int, rest: bytes) -> None:
    header = v1(source, port)
    for end in range(len(header)):
        assert parse_proxy_header(header[:end]) is None
    assert parse_proxy_header(header + rest) == ProxyHeader(len(header), (source, port))


@given(public, ports, st.booleans(), st.binary(max_size=50))
def test_v2_at_any_split(source: str, port: int, tls: bool, rest: bytes) -> None:
    header = v2(source, port, tls, extra=b"\x04\x00\x02ab")
    for end in range(len(header)):
        assert parse_proxy_header(header[:end]) is None
    assert parse_proxy_header(header + rest) == ProxyHeader(len(header), (source, port), tls)


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff:f::1 ffff::2 65535 65535\r\n",
        v2("198.51.100.1", 1, command=0),
        V2_SIGNATURE + b"\x21\x00\x00\x00",
        V2_SIGNATURE + b"\x21\x31\x00\x02ab",
    ],
)
def test_proxy_that_speaks_for_itself(header: bytes) -> None:
    parsed = parse_proxy_header(header + b"GET /")
    assert parsed == ProxyHeader(len(header))
    peer = PROXIES.peer("10.0.0.1", 9)
    assert parsed.apply(peer, PROXIES) is peer


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 99999999\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 99999 1\r\n",
        b"PROXY TCP4 host 5.6.7.8 1 2\r\n",
        b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY \r\n",
        b"PROXY " + b"x" * 200,
        V2_SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        V2_SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        V2_SIGNATURE + b"\x21\x11\xff\xff" + bytes(12),
        V2_SIGNATURE + b"\x21\x11\x00\x04" + bytes(4),
    ],
)
def test_malformed_header_is_an_error(header: bytes) -> None:
    with pytest.raises(ValueError, match=r"PROXY|port"):
        parse_proxy_header(header)


@given(st.binary(max_size=200) | st.binary(max_size=80).map(lambda tail: V2_SIGNATURE + tail))
def test_any_bytes_parse_or_raise_value_error(data: bytes) -> None:
    try:
        parsed = parse_proxy_header(data)
    except ValueError:
        return
    assert parsed is None or parsed.length <= len(data)


def test_proxied_client_may_be_a_trusted_proxy_itself() -> None:
    """A TCP load balancer before an HTTP proxy: PROXY names the proxy, its header names the client."""
    header = parse_proxy_header(v1("192.0.2.7", 80))
    assert header is not None
    peer = header.apply(PROXIES.peer("10.0.0.1", 1), PROXIES)
    assert peer == Peer("192.0.2.7", 80, trusted=True, forwarded=True)
    assert PROXIES.behind(peer, forwarded_for("198.51.100.9")).address == "198.51.100.9"


def test_proxied_client_cannot_add_a_header() -> None:
    header = parse_proxy_header(v2("198.51.100.1", 80, tls=True))
    assert header is not None
    peer = header.apply(PROXIES.peer("10.0.0.1", 1), PROXIES)
    assert PROXIES.behind(peer, forwarded_for("6.6.6.6")).address == "198.51.100.1"
    assert peer.scheme == "https"
