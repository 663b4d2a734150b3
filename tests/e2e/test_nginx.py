"""etc/nginx/linguad.conf with a real nginx before a real daemon; only ports and names of files differ."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from conftest import Start
from harness import Client, Node
from patience import PATIENCE_S
from processes import DaemonProcess
from tls_server import make_certificate

from linguad.net import dial

CONFIGURATION = Path(__file__).parent.parent.parent / "etc/nginx/linguad.conf"

WRAPPED = """\
daemon off;
error_log {folder}/error.log;
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    {temporary}
    include {folder}/linguad.conf;
}}
"""

TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx:
    """nginx in front of a daemon."""

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        assert program is not None, "install the Debian package nginx-light"
        self.certificate = make_certificate(folder, ["localhost"])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        text = CONFIGURATION.read_text()
        for before, after in (
            (r"127\.0\.0\.1:5010", f"127.0.0.1:{ports['scheduler']}"),
            (r"127\.0\.0\.1:8081", f"127.0.0.1:{ports['gateway']}"),
            (r"127\.0\.0\.1:5000", f"127.0.0.1:{ports['hub']}"),
            (r"listen 443", f"listen 127.0.0.1:{self.port}"),
            (r"/etc/linguad/tls/\w+\.pem", str(folder / "certificate.pem")),
        ):
            text, count = re.subn(before, after, text)
            assert count, before
        (folder / "linguad.conf").write_text(text)
        places = " ".join(f"{one}_temp_path {folder}/{one};" for one in TEMPORARY)
        (folder / "nginx.conf").write_text(WRAPPED.format(folder=folder, temporary=places))
        words = [program, "-p", str(folder), "-c", str(folder / "nginx.conf")]
        subprocess.run([*words, "-t", "-q"], check=True, timeout=PATIENCE_S)
        self._log = folder / "error.log"
        self._process = subprocess.Popen(words)
        until = time.monotonic() + PATIENCE_S
        while not self._listens():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < until
            time.sleep(0.05)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    async def get(self, name: str, path: str, **headers: str) -> tuple[int, str]:
        """Status and body of a page of one of the three servers."""
        lines = [f"GET {path} HTTP/1.1", f"Host: {name}.example.com", "Connection: close"]
        lines += [f"{header.replace('_', '-')}: {value}" for header, value in headers.items()]
        with trio.fail_after(PATIENCE_S):
            plain = await trio.open_tcp_stream("127.0.0.1", self.port)
            context = self.certificate.client
            async with trio.SSLStream(
                plain, context, server_hostname="localhost", https_compatible=True
            ) as stream:
                await stream.send_all(("\r\n".join(lines) + "\r\n\r\n").encode())
                answer = b"".join([part async for part in stream]).decode()
        head, _, body = answer.partition("\r\n\r\n")
        return int(head.split()[1]), body

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(PATIENCE_S)


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
    ports = {}
    for door in ("scheduler", "gateway", "hub"):
        ports[door] = (await daemon.event("listening", door=door))["port"]
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
