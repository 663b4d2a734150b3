"""Which addresses linguad may call for somebody else: only those of the public internet (gateway 11.5).

Whoever may name a URL that we call could otherwise make us call what only we can reach: this machine, the
network it stands in, the metadata service of a cloud. So a name is resolved first, each address is judged,
and the connection goes to an address that was judged: a name that means something else a moment later
changes nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import trio

from linguad.errors import LinguadError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_NAT64 = IPv6Network("64:ff9b::/96")
_NOT_PUBLIC = (
    # What `ipaddress` of some Python versions takes for public.
    IPv4Network("100.64.0.0/10"),  # between providers and their customers
    IPv4Network("192.0.0.0/24"),  # protocol assignments
    IPv4Network("192.88.99.0/24"),  # relays from IPv6 to IPv4, given up
    IPv6Network("2001::/23"),  # Teredo, ORCHID and other protocol assignments
    IPv6Network("2001:db8::/32"),  # documentation
    IPv6Network("3fff::/20"),  # documentation
    IPv6Network("5f00::/16"),  # segment routing
)


class AddressRefused(LinguadError):
    """A host may not be called, or its name means nothing; the text says why and names the cure."""


class Guard:
    """Says which addresses may be called: public ones, and those of the networks in `allowed` (CIDR)."""

    def __init__(
        self,
        allowed: Iterable[str] = (),
        *,
        public: bool = True,
        setting: str = "gateway.webhook_allowed_networks",
    ) -> None:
        """Without `public` only the networks in `allowed` may be called.

        `setting` is where an operator allows more, for the text of refusals. Raises ValueError for a text
        that is no network.
        """
        self._allowed: list[Network] = [ip_network(text, strict=False) for text in allowed]
        self._is_public = _public if public else _nothing
        self._cure = "use a host on the public internet" if public else "use https"
        self._setting = setting

    def allows(self, address: str) -> bool:
        """Whether an address in numbers may be called. Raises ValueError for what is none."""
        found = ip_address(address)
        if _listed(found, self._allowed):
            return True
        inside = embedded(found)
        if inside is not None:
            return self._is_public(inside) or _listed(inside, self._allowed)
        return self._is_public(found)

    async def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a host that may be called, in the order in which they are to be tried.

        Raises AddressRefused if there is none.
        """
        addresses = await resolve(host, port)
        public = [address for address in addresses if self.allows(address)]
        if not public:
            raise AddressRefused(
                f"{host} ({addresses[0]}) may not be called; {self._cure}, or have the "
                f"operator list its network in {self._setting}"
            )
        return public


async def resolve(host: str, port: int) -> list[str]:
    """Every address of a host, each once, in the order of the system. Raises AddressRefused if none."""
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a name"
        raise AddressRefused(f"the name {host} means no address: {reason}; check its spelling") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to: mapped, 6to4 or NAT64; None if to none."""
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _SIX_TO_FOUR:
        return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    special = (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
        or _listed(address, _NOT_PUBLIC)
    )
    return not special


def _nothing(_address: Address) -> bool:
    return False


def _listed(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
