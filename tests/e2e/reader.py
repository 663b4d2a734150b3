"""Somebody who has the sources before them, reads a page of documentation and types what it says."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from documents import ROOT, script
from patience import PATIENCE_S
from processes import clean_environment

PORTS = {5010: "SERVER", 8081: "GATEWAY", 5000: "HUB", 5011: "", 6379: "", 8000: ""}
"""Ports that pages name, and the table of the setting, if it is one of ours."""

PROGRAMS = {"python": [], "linguad": ["-m", "linguad"]}
"""Programs of `.venv/bin`, and what Python is given for each."""

PRELUDE = Path(__file__).with_name("page.sh")


class Reader:
    """Has a home directory and ports of their own, and for each page the sources to write into."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ports = dict(zip(PORTS, unused_ports(len(PORTS)), strict=True))
        self._logs = home / "logs"
        self._logs.mkdir()
        (home / ".curlrc").write_text("fail-with-body\n")
        programs = home / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name, words in PROGRAMS.items():
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {" ".join([sys.executable, *words])} "$@"\n')
            program.chmod(0o755)
        settings = {f"LINGUAD_{table}__PORT": str(self.ports[port]) for port, table in PORTS.items() if table}
        self.environment = clean_environment(
            HOME=str(home),
            PATH=f"{programs}:{os.environ['PATH']}",
            PYTHONPATH=str(ROOT),
            BASH_ENV=str(PRELUDE),
            LOGS=str(self._logs),
            # as for any user but root
            LINGUAD_SERVER__STATE_DIR=str(home / ".local/state/linguad"),
            **settings,
        )

    def here(self, text: str) -> str:
        """What a page says, with the ports of this reader."""
        names = "|".join(map(str, self.ports))
        return re.sub(rf"(?<=[:= ])({names})\b", lambda found: str(self.ports[int(found[0])]), text)

    def follow(self, page: Path) -> str:
        """Do what a page says; raises AssertionError with what was seen if something fails."""
        sources = self.home / page.stem
        sources.mkdir()
        for path in [self.home / ".venv", *ROOT.glob("[!.]*")]:
            (sources / path.name).symlink_to(path)
        typed = self.home / f"{page.stem}.sh"
        typed.write_text(self.here(script(page)))
        shell = subprocess.Popen(
            ["bash", typed],
            cwd=sources,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            seen, _ = shell.communicate(timeout=3 * PATIENCE_S)
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
                shell.communicate()
        assert shell.returncode == 0, "\n".join([seen, *map(Path.read_text, self._logs.iterdir())])
        return seen


def unused_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and that the kernel gives to nobody who asks for any."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found
