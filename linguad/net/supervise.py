"""Where bugs end, how the process is told to stop, and the timer that drives a synchronous core."""

from __future__ import annotations

import _thread
import faulthandler
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from math import inf
from types import FrameType
from typing import TypeVarTuple

import trio

from linguad import log
from linguad.errors import ConfigError, LinguadError
from linguad.metrics import LINK_CRASHES

HARD_EXIT = 130
"""Exit code of a process that was cut instead of ending by itself."""

Args = TypeVarTuple("Args")
logger = log.get(__name__)


async def guarded(kind: str, fn: Callable[[*Args], Awaitable[object]], *args: *Args) -> bool:
    """Run `fn(*args)`; a bug in it is logged, counted and ends here. True if there was none.

    Cancellation and KeyboardInterrupt pass.
    """
    sound = False
    try:
        await fn(*args)
        sound = True
    except* Exception as group:
        LINK_CRASHES.labels(kind).inc()
        logger.error("connection_crashed", kind=kind, exc_info=group)
    return sound


async def watch_signals(
    stop: trio.Event,
    hard_stop_seconds: float,
    reload: Callable[[], object] | None = None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Turn SIGTERM and SIGINT into `stop`, SIGHUP into `reload()`, until cancelled.

    The first stop signal also arms a thread that cuts the process `hard_stop_seconds` later. Nothing disarms
    it: what ends too slowly may be the very task that would have to. The second one cuts at once.
    """
    token = trio.lowlevel.current_trio_token()
    told = False

    def on_stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal told
        if told:
            os._exit(HARD_EXIT)
        told = True
        # A bare thread, because `threading` takes locks that the interrupted code may hold.
        _thread.start_new_thread(_cut_process, (hard_stop_seconds,))
        token.run_sync_soon(stop.set)

    with _handled((signal.SIGTERM, signal.SIGINT), on_stop):
        if reload is None:
            task_status.started()
            await trio.sleep_forever()
        else:
            with trio.open_signal_receiver(signal.SIGHUP) as hangups:
                task_status.started()
                async for _ in hangups:
                    try:
                        reload()
                    except (LinguadError, OSError) as error:
                        problems = error.problems if isinstance(error, ConfigError) else [("", str(error))]
                        reasons = [f"{path}: {text}" if path else text for path, text in problems]
                        logger.warning("reload_failed", reasons=reasons)


def _cut_process(seconds: float) -> None:
    time.sleep(seconds)
    try:
        os.write(2, b"linguad: hard stop, some part did not end in time; every thread was here:\n")
        faulthandler.dump_traceback(2)
    finally:
        os._exit(HARD_EXIT)


@contextmanager
def _handled(numbers: tuple[int, ...], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def notify(state: str) -> bool:
    """Tell systemd `state` (`READY=1`, `STOPPING=1`, `WATCHDOG=1`); False if nobody listens.

    Addresses that start with `@` are abstract sockets (sd_notify(3)).
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        try:
            sock.sendto(state.encode(), address)
        except OSError as error:
            logger.warning("notify_failed", state=state, reason=str(error))
            return False
    return True


async def watchdog() -> None:
    """Ping systemd at half of WATCHDOG_USEC, so that it restarts a process whose loop stands still."""
    period_us = os.environ.get("WATCHDOG_USEC", "")
    ours = os.environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
    if not ours or not period_us.isdecimal() or int(period_us) == 0:
        return
    while True:
        notify("WATCHDOG=1")
        await trio.sleep(int(period_us) / 2_000_000)


class Alarm:
    """The one timer of a synchronous core: sleeps until `due()` and then calls `fire(now)`.

    `due` gives the earliest deadline (trio clock, s; None for none); `fire` handles all that have passed.
    """

    def __init__(self, due: Callable[[], float | None], fire: Callable[[float], object]) -> None:
        self._due = due
        self._fire = fire
        self._sleep = trio.CancelScope()

    async def run(self) -> None:
        """Fire for ever; an exception of `fire` ends it."""
        while True:
            due = self._due()
            with trio.CancelScope(deadline=inf if due is None else due) as self._sleep:
                await trio.sleep_forever()
            self._fire(trio.current_time())

    def moved(self) -> None:
        """Say that a deadline may have become earlier; cheap enough to be called for every message."""
        due = self._due()
        # A deadline that became later is not worth a change: the alarm then wakes once for nothing.
        if due is not None and due < self._sleep.deadline:
            self._sleep.deadline = due
