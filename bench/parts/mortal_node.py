"""Nodes that die or fall silent, on a word in the job's trace id or at a command.

`python -m bench.parts.mortal_node URL COUNT WORK_MS` opens that many node connections, prints a line when all
are there and answers every job after WORK_MS. The first node that gets a job whose trace id begins with a
fate does not answer it:

- `reset` and `end`: some ms later its socket is gone, with a TCP reset or (like a killed process) a FIN;
- `mute`: it never answers;
- `swallow`: the same, but it keeps answering other jobs.

When another node has that job's audio, a line is printed: the fate and the ns since the socket's death, or
for the silent fates since the first node had the job. A line with a node's number on stdin resets its socket;
it is back a second later under its old id, and `killed` is printed with the number of jobs it had.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from random import Random
from socket import SO_LINGER, SOL_SOCKET
from struct import pack

import trio
from msgspec.structs import replace
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from bench.parts.echo_node import REGISTER, beat, result_of
from linguad.net import dial
from linguad.net.upgrade import MESSAGE_QUEUE_SIZE, RECEIVE_BUFFER_BYTES
from linguad.wire import codec
from linguad.wire.node import JobAssign, NodeRegisterAck

FATES = ("reset", "end", "mute", "swallow")
MID_JOB_S = (0.002, 0.02)  # when in a job a node dies
AWAY_S = 1.0
READY_S = 30
MAX_MESSAGE_BYTES = 16 * 2**20


class Strike:
    """A job's first node got it, or died, at that time (ns); another node has it when `moved` is set."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.moved = trio.Event()


_strikes: dict[str, Strike] = {}
_chance = Random(1)


class MortalNode:
    """One node through all its connections; after a fate it comes back as a new node."""

    def __init__(self, url: str, work_s: float) -> None:
        self._target = dial.parse(url)
        self._work_s = work_s
        self._register = REGISTER
        self._away_s = 0.0
        self._jobs = 0
        self._die: Callable[[bool], int] | None = None

    async def live(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, work and come back, for ever."""
        started: Callable[[], None] | None = task_status.started
        while True:
            try:
                await self._connected(started)
            except* ConnectionClosed as closed:
                if self._die is not None:
                    print(f"the server closed a node: {closed.exceptions[0]}", file=sys.stderr)
            started = None
            await trio.sleep(self._away_s)

    def kill(self) -> None:
        """Reset the socket; the node comes back under its id after a while."""
        self._away_s = AWAY_S
        if self._die is not None:
            self._die(True)
            print("killed", self._jobs, flush=True)

    async def _connected(self, started: Callable[[], None] | None) -> None:
        target = self._target
        stream = await trio.open_tcp_stream(target.host, target.port)

        def die(reset: bool) -> int:
            if reset:
                stream.setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
            self._die = None
            at = time.perf_counter_ns()
            stream.socket.close()
            return at

        async with stream, trio.open_nursery() as nursery:
            ws = await wrap_client_stream(
                nursery,
                stream,
                target.authority,
                target.resource,
                message_queue_size=MESSAGE_QUEUE_SIZE,
                max_message_size=MAX_MESSAGE_BYTES,
                receive_buffer_size=RECEIVE_BUFFER_BYTES,
            )
            await ws.send_message(codec.encode(self._register))
            ack = codec.scheduler_messages.decode(await ws.get_message())
            assert isinstance(ack, NodeRegisterAck), ack
            self._register = replace(self._register, node_id=ack.node_id)
            self._die = die
            nursery.start_soon(beat, ws, ack.node_id)
            if started is not None:
                started()
            while True:
                text = await ws.get_message()
                at = time.perf_counter_ns()
                job = codec.scheduler_messages.decode(text)
                if isinstance(job, JobAssign):
                    nursery.start_soon(self._work, ws, job, ack.node_id, at)

    async def _work(self, ws: WebSocketConnection, job: JobAssign, node_id: str, at: int) -> None:
        fate = job.trace_id.partition("-")[0]
        if fate in FATES:
            strike = _strikes.get(job.trace_id)
            if strike is None:
                strike = _strikes[job.trace_id] = Strike(at)
                await self._suffer(fate, strike)
                return
            if not strike.moved.is_set():
                strike.moved.set()
                print(fate, at - strike.at, flush=True)
        self._jobs += 1
        try:
            await trio.sleep(self._work_s)
        finally:
            self._jobs -= 1
        await ws.send_message(codec.encode(result_of(job, node_id)))

    async def _suffer(self, fate: str, strike: Strike) -> None:
        if fate == "swallow":
            return
        if fate == "mute":
            await strike.moved.wait()
        else:
            await trio.sleep(_chance.uniform(*MID_JOB_S))
        self._register = REGISTER
        if self._die is not None:
            strike.at = self._die(fate == "reset")


async def main(url: str, count: int, work_ms: float) -> None:
    """Connect, say so, work, and obey stdin until it ends."""
    nodes = [MortalNode(url, work_ms / 1000) for _ in range(count)]
    async with trio.open_nursery() as nursery:
        for node in nodes:
            with trio.fail_after(READY_S):
                await nursery.start(node.live)
        print("ready", flush=True)
        async for chunk in trio.lowlevel.FdStream(sys.stdin.fileno()):
            for number in chunk.split():
                nodes[int(number)].kill()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
