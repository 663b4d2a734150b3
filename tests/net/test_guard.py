"""Which addresses may be called: judged one by one, against the list of those that are special."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from linguad.net.guard import AddressRefused, Guard, embedded, resolve

SPECIAL_4 = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
    *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
]
"""Registry of special IPv4 addresses (IANA), and multicast."""

SPECIAL_6 = [
    *("::/128", "::1/128", "::/96", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16"),
    *("64:ff9b:1::/48", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
]

any_v4 = st.integers(0, 2**32 - 1).map(IPv4Address)
special_v4 = st.sampled_from(SPECIAL_4).flatmap(
    lambda text: st.ip_addresses(network=text).map(lambda address: IPv4Address(str(address)))
)
special_v6 = st.sampled_from(SPECIAL_6).flatmap(lambda text: st.ip_addresses(network=text))


def is_special(address: IPv4Address) -> bool:
    return any(address in IPv4Network(text) for text in SPECIAL_4)


def disguises(address: IPv4Address) -> list[IPv6Address]:
    number = int(address)
    return [
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(0x2002 << 112 | number << 80 | 1),
        IPv6Address(int(IPv6Address("64:ff9b::")) | number),
    ]


@given(st.one_of(any_v4, special_v4))
def test_ipv4_is_allowed_unless_it_is_special(address: IPv4Address) -> None:
    assert Guard().allows(str(address)) is not is_special(address)


@given(st.one_of(any_v4, special_v4))
def test_a_disguise_in_ipv6_changes_nothing(address: IPv4Address) -> None:
    for disguise in disguises(address):
        assert embedded(disguise) == address
        assert Guard().allows(str(disguise)) is not is_special(address)


@given(special_v6)
def test_special_ipv6_is_refused(address: Any) -> None:
    assert not Guard().allows(str(address))


@given(st.ip_addresses(v=6))
def test_ipv6_outside_global_unicast_is_refused(address: Any) -> None:
    if embedded(address) is None and address not in IPv6Network("2000::/3"):
        assert not Guard().allows(str(address))


@given(st.one_of(any_v4, special_v4), st.integers(0, 32))
def test_listed_networks_are_allowed_also_in_disguise(address: IPv4Address, length: int) -> None:
    guard = Guard([str(ip_network((int(address), length), strict=False))])
    assert guard.allows(str(address))
    assert Guard([str(ip_network((int(address), length), strict=False))], public=False).allows(str(address))
    assert all(guard.allows(str(disguise)) for disguise in disguises(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2001:4860:4860::8888", "64:ff9b::808:808"]
)
def test_public_addresses_are_allowed(address: str) -> None:
    assert Guard().allows(address)
    assert not Guard(["10.0.0.0/8", "::1/128"], public=False).allows(address)


@pytest.mark.parametrize(
    ("host", "meant"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("169.254.169.254", "169.254.169.254"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1"),
        ("localhost", ""),
    ],
)
async def test_hosts_that_are_not_public_are_refused_however_they_are_written(host: str, meant: str) -> None:
    with pytest.raises(AddressRefused) as caught:
        await Guard().resolve(host, 443)
    assert meant in str(caught.value)
    assert "gateway.webhook_allowed_networks" in str(caught.value)


async def test_only_the_public_addresses_of_a_host_are_used() -> None:
    class Names(trio.abc.HostnameResolver):
        async def getaddrinfo(self, host: Any, port: Any, *more: Any) -> Any:
            names = ["10.0.0.1", "8.8.8.8", "8.8.8.8", "127.0.0.1", "1.1.1.1"]
            return [(2, 1, 6, "", (name, port)) for name in names]

        async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
            raise AssertionError

    trio.socket.set_custom_hostname_resolver(Names())
    assert await Guard().resolve("mixed.example", 443) == ["8.8.8.8", "1.1.1.1"]
    assert await Guard(["127.0.0.0/8"]).resolve("mixed.example", 443) == ["8.8.8.8", "127.0.0.1", "1.1.1.1"]


async def test_where_only_listed_networks_are_allowed_the_cure_is_another() -> None:
    with pytest.raises(AddressRefused, match=r"8\.8\.8\.8.*; use https, or have the operator list"):
        await Guard(public=False).resolve("8.8.8.8", 80)


async def test_a_name_that_means_nothing() -> None:
    with pytest.raises(AddressRefused, match="check its spelling"):
        await resolve("a..b", 443)


def test_networks_must_be_networks() -> None:
    with pytest.raises(ValueError, match="banana"):
        Guard(["banana"])
    assert Guard(["127.0.0.1/8"]).allows(str(ip_address("127.255.255.255")))
