"""The node's side of an engine: a child process, asked one thing at a time and replaced when it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import trio

from linguad import log
from linguad.errors import EngineError
from linguad.worker.engine_process import LENGTH_BYTES, frame
from linguad.worker.engines.base import Failed, Hello, Load, Message, Ready, Reply, Result, Work

REQUEST_SECONDS = 60.0
"""An engine that takes longer for one request is hung; PocketSphinx takes 10 s for the longest utterance."""

START_SECONDS = 60.0
"""An engine that takes longer to say hello, or to load, is hung; a large model can be read in this time."""

SEND_SECONDS = 5.0
"""A request is taken at once by a process that waits for one."""

REAP_SECONDS = 5.0
"""A killed process is gone at once unless the kernel is stuck in a device."""

FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.5, 30.0
"""Pause before a dead engine is started anew, doubled each time until a request succeeds."""

MAX_FRAME_BYTES = 128 << 20
"""Longest message believed: an hour of speech; more means that the pipe carries something else."""

_READ_BYTES = 1 << 18

R = TypeVar("R", bound=Result)
logger = log.get(__name__)


class EngineProcess:
    """One engine in its own process. `serve` keeps it alive; `call` may be used by many tasks at once."""

    def __init__(
        self,
        name: str,
        *,
        request_seconds: float = REQUEST_SECONDS,
        start_seconds: float = START_SECONDS,
        model: Path | None = None,
        model_id: str | None = None,
    ) -> None:
        """`model` is the directory of the engine's model, where the engine does not bring its own."""
        self.name = name
        self._model = model
        self.model_id = model_id
        """The model of the hub that it works with."""
        self.hello: Hello | None = None
        """What the engine says about itself, once it was started."""
        self._request_seconds = request_seconds
        self._start_seconds = start_seconds
        self._turn = trio.Lock()
        self._child: _Child | None = None
        self._started = trio.Event()
        self._answer = _Answer()
        self._answer.arrived.set()
        self._pause = FIRST_PAUSE_SECONDS

    @property
    def is_running(self) -> bool:
        """Whether the engine is loaded and its process alive."""
        return self._child is not None

    @property
    def pid(self) -> int | None:
        """Process id while running."""
        return self._child.pid if self._child else None

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the engine, tell when it is loaded, start it anew whenever it ends; until cancelled.

        Raises EngineError, with the cure, if the first start fails.
        """
        first = True
        while True:
            try:
                async with _open_child(self.name, self._model) as child:
                    self.hello = await _greet(child, self._start_seconds)
                    await _load(child, self.hello, self._start_seconds)
                    self._child = child
                    self._started.set()
                    if first:
                        task_status.started()
                        first = False
                    while True:
                        self._answer.reply = await child.receive(Reply)
                        self._answer.arrived.set()
            except EngineError as error:
                if first:
                    raise
                logger.warning("engine_ended", engine=self.name, reason=str(error), restart_in_s=self._pause)
            finally:
                self._lost()
            await trio.sleep(self._pause)
            self._pause = min(2 * self._pause, LAST_PAUSE_SECONDS)

    async def call(self, request: Work, expected: type[R]) -> R:
        """The engine's answer. Raises EngineError if it refuses, dies or takes longer than its deadline.

        Requests are done one after the other. Cancelling gives the answer up; the engine still finishes it.
        """
        async with self._turn:
            with trio.move_on_after(self._request_seconds):
                reply = await self._ask(request)
                if not isinstance(reply, expected):
                    sentence = reply.sentence if isinstance(reply, Failed) else f"{self.name} answered oddly"
                    raise EngineError(sentence)
                self._pause = FIRST_PAUSE_SECONDS
                return reply
            if self._child is None:
                raise EngineError(f"{self.name} is not running")
            self._child.kill()
            raise EngineError(f"{self.name} did not answer within {self._request_seconds:g} s")

    async def _ask(self, request: Work) -> Reply:
        child = await self._idle()
        answer = self._answer = _Answer()
        await child.send(request)
        await answer.arrived.wait()
        if answer.reply is None:
            raise EngineError(f"{self.name} ended in the middle of a request")
        return answer.reply

    async def _idle(self) -> _Child:
        """The running process, when it owes no answer any more to a request that was given up."""
        while True:
            await self._started.wait()
            child = self._child
            await self._answer.arrived.wait()
            if child is not None and child is self._child:
                return child

    def _lost(self) -> None:
        self._child = None
        if self._started.is_set():
            self._started = trio.Event()
        self._answer.arrived.set()


class _Answer:
    """What the process owes for the last request; without a reply when it ended first."""

    def __init__(self) -> None:
        self.arrived = trio.Event()
        self.reply: Reply | None = None


async def probe(name: str, start_seconds: float = START_SECONDS) -> Hello:
    """What an engine says about itself, without loading it. Raises EngineError if it cannot even say that."""
    async with _open_child(name) as child:
        return await _greet(child, start_seconds)


async def _greet(child: _Child, seconds: float) -> Hello:
    with trio.move_on_after(seconds):
        hello: Hello = await child.receive(Hello)
        return hello
    raise EngineError(f"{child.name} did not start within {seconds:g} s")


async def _load(child: _Child, hello: Hello, seconds: float) -> None:
    if hello.problem is not None:
        raise EngineError(hello.problem)
    with trio.move_on_after(seconds):
        await child.send(Load())
        reply = await child.receive(Reply)
        if isinstance(reply, Ready):
            return
        raise EngineError(reply.sentence if isinstance(reply, Failed) else f"{child.name} answered oddly")
    raise EngineError(f"{child.name} did not load within {seconds:g} s")


class _Child:
    """A running process and its two pipes."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], to: int, out_of: int) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._to = trio.lowlevel.FdStream(to)
        self._out_of = trio.lowlevel.FdStream(out_of)
        self._received = bytearray()

    def kill(self) -> None:
        self._process.kill()

    async def send(self, message: Message) -> None:
        """Hand a message over; that the process is gone shows when its answer is awaited."""
        # Half a frame would make the rest of the pipe unreadable, so a cancelled job must not cut it.
        with (
            trio.move_on_after(SEND_SECONDS, shield=True) as sending,
            suppress(trio.BrokenResourceError, trio.ClosedResourceError),
        ):
            await self._to.send_all(frame(message))
        if sending.cancelled_caught:
            self.kill()

    async def receive(self, expected: Any) -> Any:
        """The next message. Raises EngineError when the process has ended or sends something else."""
        body = await self._frame()
        try:
            return msgspec.msgpack.decode(body, type=expected)
        except msgspec.DecodeError as error:
            raise EngineError(f"{self.name} sent something unreadable: {error}") from error

    async def _frame(self) -> bytes:
        await self._fill(LENGTH_BYTES)
        length = int.from_bytes(self._received[:LENGTH_BYTES], "little")
        if length > MAX_FRAME_BYTES:
            raise EngineError(f"{self.name} sent something unreadable: a message of {length} bytes")
        end = LENGTH_BYTES + length
        await self._fill(end)
        body = bytes(self._received[LENGTH_BYTES:end])
        del self._received[:end]
        return body

    async def _fill(self, size: int) -> None:
        while len(self._received) < size:
            part = await self._out_of.receive_some(_READ_BYTES)
            if not part:
                raise EngineError(f"the process of {self.name} ended")
            self._received += part

    async def close(self) -> None:
        """Kill the process and wait until it is gone."""
        self.kill()
        with trio.CancelScope(shield=True):
            await self._to.aclose()
            await self._out_of.aclose()
            # The wait is bounded in the thread, which a cancelled task could not stop.
            await trio.to_thread.run_sync(partial(_reap, self.name, self._process))


def _reap(name: str, process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(REAP_SECONDS)
    except subprocess.TimeoutExpired:
        logger.error("engine_not_killed", engine=name, pid=process.pid)


@asynccontextmanager
async def _open_child(name: str, model: Path | None = None) -> AsyncIterator[_Child]:
    child = _spawn(name, model)
    try:
        yield child
    finally:
        await child.close()


def _spawn(name: str, model: Path | None) -> _Child:
    """Start the process of an engine.

    This must happen in the main thread, as it does here: the kernel kills the child when the thread that
    started it ends, and trio's own way to start a process uses a thread that ends after some seconds.
    """
    child_reads, to = os.pipe()
    out_of, child_writes = os.pipe()
    command = [sys.executable, "-P", "-m", "linguad.worker.engine_process", name, str(os.getpid())]
    if model is not None:
        command.append(str(model))
    # The child finds the modules that this process found, wherever both were started.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        process = subprocess.Popen(command, stdin=child_reads, stdout=child_writes, env=environment)
    except OSError as error:
        os.close(to)
        os.close(out_of)
        raise EngineError(f"the process of {name} cannot be started: {error.strerror}") from error
    finally:
        os.close(child_reads)
        os.close(child_writes)
    return _Child(name, process, to, out_of)
