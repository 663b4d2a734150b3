"""Supervision: where bugs end, signals (in real processes), systemd, the alarm."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from patience import PATIENCE_S
from prometheus_client import REGISTRY
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad.net.supervise import Alarm, guarded, notify, watchdog


def crashes() -> float:
    return REGISTRY.get_sample_value("linguad_link_crashes_total", {"kind": "guarded"}) or 0.0


async def test_guarded_ends_bugs_and_counts_them(caplog: pytest.LogCaptureFixture) -> None:
    async def bug(text: str) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise KeyError(text)

    before = crashes()
    assert await guarded("guarded", bug, "x") is False
    assert crashes() == before + 1
    assert "connection_crashed" in caplog.text


async def test_guarded_lets_cancellation_pass(autojump_clock: MockClock) -> None:
    before = crashes()
    with trio.move_on_after(1) as scope:
        await guarded("guarded", trio.sleep_forever)
    assert scope.cancelled_caught
    assert crashes() == before
    assert await guarded("guarded", trio.sleep, 1) is True


async def test_guarded_lets_keyboard_interrupt_pass() -> None:
    async def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.RaisesGroup(KeyboardInterrupt, allow_unwrapped=True):
        await guarded("guarded", interrupt)


PROGRAM = """
import os, sys, time, trio
from linguad.net.supervise import watch_signals

async def main():
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(watch_signals, stop, {hard}, lambda: print("reload", flush=True))
        print("up", flush=True)
        await stop.wait()
        print("stopping", flush=True)
        {end}
        nursery.cancel_scope.cancel()

trio.run(main)
print("down", flush=True)
"""


class Program:
    """A process that runs PROGRAM."""

    def __init__(self, end: str = "pass", hard: float = 60) -> None:
        source = PROGRAM.format(end=end, hard=hard)
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(source)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self.expect("up")

    def expect(self, line: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == line

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Exit code and what was said on standard error."""
        _, said = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_stops_in_order(number: signal.Signals) -> None:
    program = Program()
    program.tell(number)
    program.expect("stopping")
    program.expect("down")
    assert program.end() == (0, "")


def test_second_signal_ends_at_once() -> None:
    program = Program("await trio.sleep_forever()")
    program.tell(signal.SIGTERM)
    program.expect("stopping")
    program.tell(signal.SIGINT)
    assert program.end()[0] == 130


@pytest.mark.parametrize(
    "stuck",
    [
        "await trio.to_thread.run_sync(time.sleep, 60)",
        "time.sleep(60)",
        "with trio.CancelScope(shield=True): await trio.sleep_forever()",
        "nursery.start_soon(trio.to_thread.run_sync, time.sleep, 60); await trio.sleep(0.1)",
    ],
)
def test_hard_stop_cuts_what_is_stuck_and_says_where(stuck: str) -> None:
    program = Program(stuck, hard=0.3)
    program.tell(signal.SIGTERM)
    program.expect("stopping")
    code, said = program.end()
    assert code == 130
    assert "hard stop" in said
    assert "Thread 0x" in said


def test_stuck_loop_is_ended_by_the_second_signal() -> None:
    program = Program("[time.sleep(0.05) for _ in range(1000)]")
    program.tell(signal.SIGTERM)
    program.expect("stopping")
    program.tell(signal.SIGTERM)
    assert program.end()[0] == 130


def test_hangup_reloads() -> None:
    program = Program()
    for _ in range(2):
        program.tell(signal.SIGHUP)
        program.expect("reload")
    program.tell(signal.SIGTERM)
    program.expect("stopping")
    program.expect("down")
    assert program.end()[0] == 0


@pytest.fixture(params=["path", "abstract"])
def systemd(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """What systemd listens on."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@linguad-test-{os.getpid()}"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
    sock.setblocking(False)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    yield sock
    sock.close()


def test_notify(systemd: socket.socket) -> None:
    assert notify("READY=1")
    assert systemd.recv(100) == b"READY=1"


def test_notify_without_systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not notify("READY=1")


async def test_watchdog_pings_at_half_the_time(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    with trio.move_on_after(19):
        await watchdog()
    for _ in range(4):
        assert systemd.recv(100) == b"WATCHDOG=1"
    with pytest.raises(BlockingIOError):
        systemd.recv(100)


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
    ],
)
async def test_watchdog_of_somebody_else(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with trio.fail_after(PATIENCE_S):
        await watchdog()


class Core:
    """A synchronous core with deadlines."""

    def __init__(self) -> None:
        self.deadlines: list[float] = []
        self.fired: list[float] = []

    def due(self) -> float | None:
        return min(self.deadlines, default=None)

    def tick(self, now: float) -> None:
        self.fired.append(now)
        self.deadlines = [at for at in self.deadlines if at > now]


async def test_alarm_fires_at_each_deadline(autojump_clock: MockClock) -> None:
    core = Core()
    core.deadlines = [1.0, 3.0, 3.0, 7.5]
    alarm = Alarm(core.due, core.tick)
    with trio.move_on_after(100):
        await alarm.run()
    assert core.fired == [1.0, 3.0, 7.5]


async def test_alarm_learns_of_earlier_deadlines(autojump_clock: MockClock) -> None:
    core = Core()
    alarm = Alarm(core.due, core.tick)
    core.deadlines = [50.0]
    alarm.moved()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarm.run)
        await wait_all_tasks_blocked()
        for at in (20.0, 10.0):
            core.deadlines.append(at)
            alarm.moved()
        await trio.sleep(30)
        assert core.fired == [10.0, 20.0]
        # A deadline that goes away costs one tick for nothing; a new one after it counts again.
        core.deadlines = [80.0]
        alarm.moved()
        await trio.sleep(60)
        assert core.fired == [10.0, 20.0, 50.0, 80.0]
        core.deadlines = [0.0]
        alarm.moved()
        await wait_all_tasks_blocked()
        assert core.fired[-1] == 90.0
        nursery.cancel_scope.cancel()
