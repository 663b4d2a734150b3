"""Who is at the other end of a connection: trusted proxies, forwarding headers, PROXY protocol v1 and v2.

A forwarding header or a PROXY header is believed only if it comes from an address of `TrustedProxies`; from
anywhere else it changes nothing but `Peer.forwarded`. List a proxy only if it sets these headers itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal

from linguad.errors import LinguadError

Scheme = Literal["http", "https"]
Headers = Iterable[tuple[bytes, bytes]]
"""Header lines of one request, in order, names in lower case."""

V1_PREFIX = b"PROXY "
V1_LONGEST = 107
"""Bytes of the longest PROXY v1 line with its line end (PROXY protocol 2.1)."""

V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V2_HEAD = 16
V2_LONGEST = 4096
"""Most bytes taken of a PROXY v2 header; load balancers send a few hundred."""

V6_PREFIX = 64
"""Bits of an IPv6 network that one customer gets; within it anybody has as many addresses as they like."""

_MAPPED = IPv6Network("::ffff:0:0/96")
_TLV_SSL = 0x20
_CLIENT_SSL = 0x01
_FORWARDING = frozenset(
    b"forwarded via x-real-ip x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port".split()
)
_HOST_PORT = re.compile(r"\[(?P<v6>[^\]]+)\](?::(?P<port6>\d{1,5}))?|(?P<v4>[\d.]+):(?P<port4>\d{1,5})")


@dataclass(frozen=True, slots=True)
class Peer:
    """The client of a connection or request, as far as it is known for sure."""

    address: str
    port: int = 0
    scheme: Scheme = "http"
    trusted: bool = False
    """The connection comes from a trusted proxy."""
    forwarded: bool = False
    """Somebody between the client and us said so, believed or not."""

    @property
    def loopback(self) -> bool:
        """The client is on this machine, as far as a connection can show."""
        address = parse_address(self.address)
        return address is not None and address.is_loopback

    @property
    def local(self) -> bool:
        """The client is a program on this machine and not a proxy for somebody else (resolutions 4)."""
        return self.loopback and not self.forwarded


class TrustedProxies:
    """The networks whose word about the client is taken."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """Raises LinguadError if an entry is no CIDR network or address."""
        parsed = [_parse_network(text) for text in networks]
        self._v4 = tuple(network for network in parsed if isinstance(network, IPv4Network))
        self._v6 = tuple(network for network in parsed if isinstance(network, IPv6Network))

    def __contains__(self, address: object) -> bool:
        if isinstance(address, str):
            address = parse_address(address)
        if isinstance(address, IPv4Address):
            return any(address in network for network in self._v4)
        if isinstance(address, IPv6Address):
            return any(address in network for network in self._v6)
        return False

    def peer(self, address: str, port: int) -> Peer:
        """The peer of a fresh connection."""
        known = parse_address(address)
        return Peer(str(known) if known else address, port, trusted=known in self)

    def behind(self, peer: Peer, headers: Headers) -> Peer:
        """The client of one request that came over `peer`'s connection: the rightmost hop we do not trust."""
        given: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            if name in _FORWARDING:
                given.setdefault(name, []).append(value)
        if not given:
            return peer
        seen = replace(peer, forwarded=True)
        if seen.address not in self:
            return seen
        hops = _split(given.get(b"x-forwarded-for", ()))
        schemes = _split(given.get(b"x-forwarded-proto", ()))
        walked = 0
        while hops and seen.address in self:
            hop = _parse_hop(hops.pop())
            if hop is None:
                break
            walked += 1
            seen = replace(seen, address=hop[0], port=hop[1])
        if schemes:
            # Each proxy appends what it saw, so the client's own entry is as far from the right as its hop;
            # where only the nearest proxy speaks, there is just one.
            said = schemes[-min(max(walked, 1), len(schemes))].lower()
            seen = replace(seen, scheme="https" if said in ("https", "wss") else "http")
        return seen


def is_operator_here(peer: Peer, host: str, origin: str | None) -> bool:
    """Whether a program on this machine asks, and no page from elsewhere in a browser here.

    `host` and `origin` are the headers. A browser says where such a page is from, or under which name it
    reached us: a name that somebody else's DNS may have led to this machine. Who calls this machine by
    another name than localhost needs the token.
    """
    if not peer.local or origin is not None:
        return False
    name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    return name.lower() in ("", "localhost") or parse_address(name) is not None


@lru_cache(maxsize=4096)
def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """The IP address that `text` is, an IPv4 one inside IPv6 unwrapped, without zone; None if it is none."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def origin_of(address: str) -> str:
    """What stands for one customer: the address, or the network of an IPv6 address."""
    parsed = parse_address(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, V6_PREFIX), strict=False))
    return address


def _parse_network(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text.strip())
    except ValueError as error:
        raise LinguadError(f"{text!r} is no network in CIDR form like 10.0.0.0/8: {error}") from error
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        # Addresses are compared unwrapped, see `parse_address`.
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - _MAPPED.prefixlen))
    return network


def _split(lines: Sequence[bytes]) -> list[str]:
    return [item.strip() for item in b",".join(lines).decode("latin-1").split(",")] if lines else []


def _parse_hop(text: str) -> tuple[str, int] | None:
    """Address and port (0 if not said) of one entry of X-Forwarded-For."""
    match = _HOST_PORT.fullmatch(text)
    port = 0
    if match:
        text = match["v6"] or match["v4"]
        port = int(match["port6"] or match["port4"] or 0)
    address = parse_address(text)
    if address is None or port > 65535:
        return None
    return str(address), port


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What stands before the first request byte."""

    length: int
    """Bytes to take off the stream; 0 if there is no PROXY header."""
    client: tuple[str, int] | None = None
    """Address and port of the client; None if the proxy speaks for itself."""
    tls: bool = False
    """The client spoke TLS with the proxy (v2 only)."""

    def apply(self, peer: Peer, proxies: TrustedProxies) -> Peer:
        """The peer that a trusted proxy's connection stands for."""
        if self.client is None:
            return peer
        client = proxies.peer(*self.client)
        return replace(client, trusted=peer.trusted, forwarded=True, scheme="https" if self.tls else "http")


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """Read a PROXY header at the start of `data`; None means that more bytes are needed.

    Raises ValueError if one begins but is malformed.
    """
    if data.startswith(V2_SIGNATURE):
        return _parse_v2(data)
    if data.startswith(V1_PREFIX):
        return _parse_v1(data)
    if V2_SIGNATURE.startswith(data) or V1_PREFIX.startswith(data):
        return None
    return ProxyHeader(0)


def _parse_v1(data: bytes) -> ProxyHeader | None:
    line, end, _ = data[:V1_LONGEST].partition(b"\r\n")
    if not end:
        if len(data) < V1_LONGEST:
            return None
        raise ValueError("PROXY v1 line is too long")
    length = len(line) + len(end)
    words = line.decode("latin-1").split(" ")
    if words[1] == "UNKNOWN":
        return ProxyHeader(length)
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise ValueError("PROXY v1 line is malformed")
    source = parse_address(words[2])
    ports = words[4:]
    if source is None or not all(port.isascii() and port.isdecimal() and len(port) <= 5 for port in ports):
        raise ValueError("PROXY v1 line has no valid address")
    return ProxyHeader(length, (str(source), _port(int(ports[0]))))


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < V2_HEAD:
        return None
    version, command = data[12] >> 4, data[12] & 0x0F
    length = V2_HEAD + int.from_bytes(data[14:16])
    if version != 2 or command > 1 or length > V2_LONGEST:
        raise ValueError("PROXY v2 header is malformed")
    if len(data) < length:
        return None
    family = data[13] >> 4
    width = {1: 4, 2: 16}.get(family)
    if command == 0 or width is None:
        return ProxyHeader(length)
    body = data[V2_HEAD:length]
    if len(body) < 2 * width + 4:
        raise ValueError("PROXY v2 header is too short for its addresses")
    source = parse_address(str(ip_address(body[:width])))
    port = int.from_bytes(body[2 * width : 2 * width + 2])
    return ProxyHeader(length, (str(source), port), _says_tls(body[2 * width + 4 :]))


def _says_tls(tlvs: bytes) -> bool:
    while len(tlvs) >= 3:
        end = 3 + int.from_bytes(tlvs[1:3])
        if tlvs[0] == _TLV_SSL and end > 3:
            return bool(tlvs[3] & _CLIENT_SSL)
        tlvs = tlvs[end:]
    return False


def _port(number: int) -> int:
    if number > 65535:
        raise ValueError("port is out of range")
    return number
