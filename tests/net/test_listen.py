"""Listening on every address with one port, and the sentence when that cannot be."""

from __future__ import annotations

import socket

import pytest
import trio
from patience import PATIENCE_S

from linguad.errors import LinguadError
from linguad.net.listen import listen, port_of


async def close(listeners: list[trio.SocketListener]) -> None:
    for listener in listeners:
        await listener.aclose()


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("", {"0.0.0.0", "::"}),
        ("localhost", {"127.0.0.1", "::1"}),
        ("127.0.0.1", {"127.0.0.1"}),
        ("::1", {"::1"}),
    ],
)
async def test_all_addresses_have_one_port(host: str, addresses: set[str]) -> None:
    listeners = await listen(host, 0)
    names = [listener.socket.getsockname() for listener in listeners]
    assert {name[0] for name in names} == addresses
    assert {name[1] for name in names} == {port_of(listeners)}
    with trio.fail_after(PATIENCE_S):
        for address in addresses & {"127.0.0.1", "::1"}:
            await (await trio.open_tcp_stream(address, port_of(listeners))).aclose()
    await close(listeners)
    again = await listen(host, names[0][1])
    await close(again)


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1"])
async def test_port_taken_is_one_sentence_with_the_cure(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(LinguadError) as error:
            await listen(host, port, setting="gateway.port")
        text = str(error.value)
        assert str(port) in text
        assert "another program" in text
        assert "gateway.port" in text


async def test_port_taken_on_ipv6_only() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        with pytest.raises(LinguadError, match="another program"):
            await listen("localhost", other.getsockname()[1])
        await close(await listen("localhost", 0))


async def test_foreign_address_and_wrong_name() -> None:
    with pytest.raises(LinguadError, match="does not have that address"):
        await listen("192.0.2.1", 0)
    with pytest.raises(LinguadError, match="no address of this machine"):
        await listen("no such host", 0)
