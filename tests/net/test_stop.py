"""The end of the daemon as seen on its sockets, and peers that do not read, on real sockets.

Rules: port 0 on loopback, every wait under `fail_after`, nothing asserted about durations.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
from doors import close_code, front_door, get, living, read_all, read_answer, until, upgrade
from prometheus_client import REGISTRY
from trio_websocket import ConnectionClosed

from linguad.errors import CloseReason
from linguad.net.websocket import Link, LinkSettings


def closes(reason: str) -> float:
    labels = {"kind": "test", "reason": reason}
    return REGISTRY.get_sample_value("linguad_link_closes_total", labels) or 0.0


async def test_stop_sequence() -> None:
    """No new sockets, then 1001 for all, then what still hangs is cut at the deadline."""
    settings = LinkSettings(write_seconds=100, close_seconds=100)
    async with (
        front_door(links=settings) as door,
        door.dial() as first,
        door.dial() as second,
        await door.connect() as http,
        await door.connect() as deaf,
    ):
        await http.send_all(get("/x"))
        await read_answer(http)
        await deaf.send_all(upgrade("/ws/echo"))
        await until(lambda: len(door.links) == 3)

        door.accepting.cancel()
        await trio.lowlevel.checkpoint()
        with pytest.raises(OSError, match="failed"):
            await door.connect()
        await first.get_message()
        await first.send_message("during the drain")
        assert await first.get_message() == "during the drain"

        await door.http.drain()
        assert await read_all(http) == b""
        door.links.close_all(CloseReason.SHUTDOWN)
        for client in (first, second):
            assert (await close_code(client))[0] == 1001

        assert door.connections.child_tasks
        door.connections.cancel_scope.deadline = trio.current_time() + 0.2
        await until(lambda: not door.connections.child_tasks)


async def flood(link: Link) -> None:
    """Say more than any socket buffer holds to who does not read."""
    for _ in range(100):
        if not link.send(bytes(1 << 20)):
            break
    await link.receive()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (LinkSettings(outbox_bytes=1 << 30, write_seconds=0.3), "write_timeout"),
        (LinkSettings(outbox_bytes=32 << 20, write_seconds=0.3), "queue_full"),
    ],
)
async def test_peer_that_does_not_read_is_ended_and_counted(settings: LinkSettings, reason: str) -> None:
    async with front_door(handler=flood, links=settings) as door:
        before, counted = living(), closes(reason)
        stream = await door.connect()
        await stream.send_all(upgrade("/ws/echo"))
        await until(lambda: closes(reason) == counted + 1)
        await stream.aclose()
        await until(lambda: living() == before)


async def test_peer_that_sends_too_much_sees_1009() -> None:
    """Without draining what it still sends, the reset would overtake our close frame."""
    settings = LinkSettings(max_message_bytes=1 << 20)
    async with front_door(links=settings) as door, door.dial() as client:
        await client.get_message()
        with suppress(ConnectionClosed):
            await client.send_message("x" * (32 << 20))
        assert (await close_code(client))[0] == 1009
