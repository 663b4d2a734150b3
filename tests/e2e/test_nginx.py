"""etc/nginx/linguad.conf with a real nginx before a real daemon; only ports and names of files differ."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from conftest import Start
from harness import Client, Node
from nginx import Nginx
from patience import PATIENCE_S
from processes import DaemonProcess

from linguad.net import dial


class House:
    """A daemon behind nginx."""

    def __init__(self, daemon: DaemonProcess, nginx: Nginx) -> None:
        self.daemon = daemon
        self.nginx = nginx


@pytest.fixture
async def house(start: Start, tmp_path: Path) -> AsyncIterator[House]:
    """A daemon that trusts nginx, and nginx."""
    daemon = start(server={"trusted_proxies": ["127.0.0.1"]}, gateway={"failed_auth_limit": 1})
    await daemon.event("started")
    ports: dict[str, list[int]] = {}
    for door in ("scheduler", "gateway", "hub"):
        ports[door] = [(await daemon.event("listening", door=door))["port"]]
    folder = tmp_path / "nginx"
    folder.mkdir()
    folder.chmod(0o755)
    nginx = await trio.to_thread.run_sync(Nginx, folder, ports)
    yield House(daemon, nginx)
    await trio.to_thread.run_sync(nginx.stop)


async def test_people_and_nodes_meet_behind_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(house.daemon.directory.parent / "nginx" / "certificate.pem"))
    url = f"wss://localhost:{house.nginx.port}/ws"
    async with (
        dial.websocket(f"{url}/node", max_message_bytes=2**26) as node_ws,
        dial.websocket(f"{url}/session") as client_ws,
        trio.open_nursery() as nursery,
    ):
        node, client = Node(node_ws, patience_s=PATIENCE_S), Client(client_ws, patience_s=PATIENCE_S)
        await node.register()
        nursery.start_soon(node.beat)
        nursery.start_soon(node.work)
        await client.open()
        await client.speak()
        assert (await client.result())["text_translated"] == "oído 0"
        nursery.cancel_scope.cancel()


async def test_who_asks_is_known_and_operators_pages_are_not_for_everybody(house: House) -> None:
    nginx, daemon = house.nginx, house.daemon
    assert await nginx.get("linguad", "/health") == (200, "OK")
    assert (await nginx.get("linguad", "/metrics"))[0] == 404
    assert (await nginx.get("api", "/admin/v1/tenants"))[0] == 404
    assert (await nginx.get("api", "/health")) == (200, "OK")
    assert (await nginx.get("api", "/v1/me"))[0] == 401
    assert json.loads((await nginx.get("hub", "/health"))[1]) == {"status": "OK"}
    status, _ = await nginx.get("linguad", "/api/v1/nodes")
    assert status == 401, "a program behind a proxy is not on this machine"
    caller = {"X_Forwarded_For": "198.51.100.7", "Authorization": "Bearer lk_test_wrong"}
    assert (await nginx.get("api", "/v1/me", **caller))[0] == 401
    await daemon.event("address_blocked", address="198.51.100.7")
