"""Daemons that end with their test, or with the last test of their file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("processes")

from processes import DaemonProcess  # noqa: E402 - after its assertions can be explained

Start = Callable[..., DaemonProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a daemon with settings as `server={"drain_seconds": 1}`, and kills it after the test."""
    started: list[DaemonProcess] = []

    def begin(**tables: Any) -> DaemonProcess:
        directory = tmp_path / f"daemon-{len(started)}"
        directory.mkdir()
        daemon = DaemonProcess(directory, **tables)
        started.append(daemon)
        return daemon

    yield begin
    for daemon in started:
        daemon.clear_away()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon with short deadlines for all tests of a file; in the end it must be as healthy as ever."""
    running = DaemonProcess(
        tmp_path_factory.mktemp("daemon"),
        server={"peek_seconds": 3, "handshake_seconds": 3},
        sessions={"max_message_bytes": 1024 * 1024, "error_throttle_ms": 0},
        nodes={"max_message_bytes": 1024 * 1024, "register_timeout_seconds": 3},
        jobs={"pending_timeout_seconds": 2},
    )
    try:
        yield running
        running.stop()
    finally:
        running.clear_away()
