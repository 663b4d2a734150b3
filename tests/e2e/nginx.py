"""etc/nginx/linguad.conf in a real nginx; only ports and names of files differ."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import trio
from patience import PATIENCE_S
from redis_server import free_port
from tls_server import make_certificate

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
    """nginx in front of one instance or several."""

    def __init__(self, folder: Path, ports: dict[str, list[int]]) -> None:
        """`ports` has those of each door, one for each instance."""
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        assert program is not None, "install the Debian package nginx-light"
        self.certificate = make_certificate(folder, ["localhost"])
        self.port = free_port()
        text = CONFIGURATION.read_text()
        for before, after in (
            (r"server 127\.0\.0\.1:5010;", servers(ports["scheduler"])),
            (r"server 127\.0\.0\.1:8081;", servers(ports["gateway"])),
            (r"server 127\.0\.0\.1:5000;", servers(ports["hub"])),
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


def servers(ports: list[int]) -> str:
    """Those of an upstream."""
    return " ".join(f"server 127.0.0.1:{port};" for port in ports)
