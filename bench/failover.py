"""What a node's failure costs: time until another node has the audio, and what a load notices of deaths.

- `death`: a node's socket dies in the middle of a job; time until the next node has the audio.
- `silent`: a node does not answer; time over the job's deadline until the next node has the audio.
- `load`: ten nodes under load, one of them killed every second and back a second later, in turns with the
  same load without kills.

Daemon (log level warning), nodes and clients are processes of their own.
"""

from __future__ import annotations

import subprocess
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import cycle
from random import Random

import msgspec
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from bench import report
from bench.parts import processes
from linguad.net import dial
from linguad.wire import codec, opus
from linguad.wire.session import SessionInit, SessionInitAck, Utterance

DEADLINE_S = 0.2
NODES_OF_A_DEATH = 4  # the dead one comes back at once, but nobody should wait for it
NODES = 10
SESSIONS = 50
OPEN_PER_SESSION = 4  # utterances a session may have under way; what is due beyond that waits for an answer
WORK_MS = 30.0  # of a node in the load
LOST_S = 20.0  # twice the time a job waits for a node
MAX_LOST = 3  # more end a row, or it might take hours
BACK_S = 1.5  # after its last kill a slice waits so long for the node to be back
SLICES = 3
BUDGET_MS = 50

SPOKEN_3_S = b64encode(opus.join([bytes(60)] * 150)).decode()
SPOKEN_320_MS = b64encode(opus.join([bytes(60)] * 16)).decode()


class Breakdown(msgspec.Struct):
    """What a client reads of `time_breakdown`."""

    attempts: int = 1


class Heard(msgspec.Struct):
    """What a client reads of a message."""

    type: str
    utterance_index: int = -1
    reason: str = ""
    time_breakdown: Breakdown | None = None


_heard = msgspec.json.Decoder(Heard)


@dataclass
class Tally:
    """What one client saw."""

    sent: int = 0
    delays_ms: list[float] = field(default_factory=list)
    retried_ms: list[float] = field(default_factory=list)
    """The delays of results that took more than one attempt."""
    missing: Counter[str] = field(default_factory=Counter)
    """Reasons of all `missing_result`."""
    lost: int = 0
    """Neither a result nor a reason."""
    twice: int = 0
    """Results and reasons for an utterance that had its result."""
    late: int = 0
    """Results for an utterance that was said to have none."""


class Client:
    """One session."""

    def __init__(self, ws: WebSocketConnection, session_id: str) -> None:
        self.tally = Tally()
        self._ws = ws
        self._id = session_id
        self._index = 0
        self._open: dict[int, int] = {}
        self._delivered: set[int] = set()
        self._missed: set[int] = set()
        self._room = trio.Semaphore(OPEN_PER_SESSION)
        self._all_settled = trio.Event()

    async def send(self, audio: str, trace_id: str | None = None) -> None:
        """Send an utterance as soon as not too many are open."""
        with trio.move_on_after(LOST_S):
            await self._room.acquire()
        message = Utterance(
            session_id=self._id,
            utterance_index=self._index,
            manual_cut=True,
            src_lang="en",
            tgt_lang="es",
            audio=audio,
            audio_format="opus",
            sample_rate=16000,
            trace_id=trace_id,
        )
        self._open[self._index] = time.perf_counter_ns()
        self._index += 1
        self.tally.sent += 1
        await self._ws.send_message(codec.encode(message))

    async def listen(self) -> None:
        """Count what comes, until the connection ends."""
        while True:
            heard = _heard.decode(await self._ws.get_message())
            now = time.perf_counter_ns()
            index = heard.utterance_index
            if heard.type in ("translation_result", "missing_result"):
                self.tally.twice += index in self._delivered
            if heard.type == "translation_result":
                self._result(heard, now)
            elif heard.type == "missing_result":
                self._missed.add(index)
                self.tally.missing[heard.reason] += 1
                if heard.reason != "gap_timeout":
                    self._settle(index)
            elif heard.type != "ui_event":
                raise SystemExit(f"unexpected answer: {heard}")

    async def settled(self) -> None:
        """Wait until all is answered or lost; what is open then is lost."""
        if self._open:
            self._all_settled = trio.Event()
            with trio.move_on_after(LOST_S):
                await self._all_settled.wait()
        self.tally.lost += len(self._open)
        for index in list(self._open):
            self._settle(index)

    def _result(self, heard: Heard, now: int) -> None:
        tally, index = self.tally, heard.utterance_index
        tally.late += index in self._missed and index not in self._delivered
        self._delivered.add(index)
        sent_at = self._settle(index)
        if sent_at is not None:
            delay_ms = (now - sent_at) / 1e6
            tally.delays_ms.append(delay_ms)
            if heard.time_breakdown is not None and heard.time_breakdown.attempts > 1:
                tally.retried_ms.append(delay_ms)

    def _settle(self, index: int) -> int | None:
        sent_at = self._open.pop(index, None)
        if sent_at is not None:
            self._room.release()
            if not self._open:
                self._all_settled.set()
        return sent_at


async def _clients(stack: AsyncExitStack, url: str, count: int) -> list[Client]:
    clients = []
    nursery = await stack.enter_async_context(trio.open_nursery())
    for _ in range(count):
        ws = await stack.enter_async_context(dial.websocket(f"{url}/ws/session"))
        init = SessionInit(client_version="bench", platform="web", src_lang="en", tgt_lang="es")
        await ws.send_message(codec.encode(init))
        with trio.fail_after(processes.READY_S):
            ack = codec.server_messages.decode(await ws.get_message())
        assert isinstance(ack, SessionInitAck), ack
        clients.append(Client(ws, ack.session_id))
        nursery.start_soon(_listen, clients[-1])
    stack.callback(nursery.cancel_scope.cancel)
    return clients


async def _listen(client: Client) -> None:
    try:
        await client.listen()
    except ConnectionClosed as error:
        raise SystemExit(f"the server closed a client: {error}") from error


async def _one_by_one(url: str, fate: str, count: int) -> Tally:
    """Utterances that meet a fate, each when the last has its answer."""
    async with AsyncExitStack() as stack:
        (client,) = await _clients(stack, url, 1)
        for number in range(count):
            if fate == "swallow":
                # A session stays with its node while it has little to do; the node answers the second one.
                await client.send(SPOKEN_320_MS, f"{fate}-{number}")
                await client.send(SPOKEN_320_MS)
            else:
                await client.send(SPOKEN_3_S, f"{fate}-{number}")
            await client.settled()
            if client.tally.lost > MAX_LOST:
                break
        return client.tally


def _fates(kind: str, fates: Iterable[str], count: int, deadline_s: float | None) -> Iterator[report.Row]:
    settings = {}
    if deadline_s is not None:
        settings = {f"JOBS__TIMEOUT_{name}_SECONDS": str(deadline_s) for name in ("BASE", "MIN", "MAX")}
    for fate in fates:
        with processes.daemon(settings) as daemon:
            nodes = ["bench.parts.mortal_node", f"{daemon.url}/ws/node", str(NODES_OF_A_DEATH), "0"]
            with processes.child(nodes) as process:
                processes.line(process)
                tally = trio.run(_one_by_one, daemon.url, fate, count)
                process.terminate()
                assert process.stdout is not None
                taken_ns = [int(text.split()[1]) for text in process.stdout]
        over_ms = sorted(ns / 1e6 - (deadline_s or 0) * 1000 for ns in taken_ns)
        yield {
            "impl": "linguad",
            "kind": kind,
            "fate": fate,
            "times": tally.sent // 2 if fate == "swallow" else tally.sent,
            "moved": len(over_ms),
            "lost": tally.lost,
            "twice": tally.twice,
            "missing": _reasons([tally]),
            "p50_ms": report.percentile(over_ms, 50),
            "p99_ms": report.percentile(over_ms, 99),
            "max_ms": report.percentile(over_ms, 100),
        }


@dataclass
class Phase:
    """All slices of a load, with kills or without."""

    seconds: float = 0.0
    done: int = 0
    kills: int = 0
    tallies: list[Tally] = field(default_factory=list)

    def row(self) -> dict[str, str | int | float]:
        """The numbers of a row."""
        delays = sorted(delay for tally in self.tallies for delay in tally.delays_ms)
        retried = sorted(delay for tally in self.tallies for delay in tally.retried_ms)
        return {
            "kills": self.kills,
            "sent": sum(tally.sent for tally in self.tallies),
            "lost": sum(tally.lost for tally in self.tallies),
            "twice": sum(tally.twice for tally in self.tallies),
            "missing": _reasons(self.tallies),
            "late": sum(tally.late for tally in self.tallies),
            "jobs_per_s": round(self.done / self.seconds, 1),
            "p50_ms": report.percentile(delays, 50),
            "p99_ms": report.percentile(delays, 99),
            "retried": len(retried),
            **report.percentiles("retried", retried),
        }


async def _slice(clients: list[Client], per_s: float, seconds: float, phase: Phase) -> None:
    """Let the clients send at that rate, as far as they get their answers."""
    interval = len(clients) / per_s
    began = trio.current_time()
    chance = Random(1)

    async def speak(client: Client, due: float) -> None:
        while due < began + seconds:
            await trio.sleep_until(due)
            await client.send(SPOKEN_320_MS)
            due = max(due + interval, trio.current_time())

    for client in clients:
        client.tally = Tally()
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(speak, client, began + chance.uniform(0, interval))
    phase.seconds += trio.current_time() - began
    phase.done += sum(len(client.tally.delays_ms) for client in clients)
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(client.settled)
    phase.tallies += [client.tally for client in clients]


async def _kill(nodes: subprocess.Popen[str], order: Iterator[int], phase: Phase) -> None:
    """Kill one node after another, one a second."""
    assert nodes.stdin is not None
    for number in order:
        print(number, file=nodes.stdin, flush=True)
        phase.kills += 1
        await trio.sleep(1)


async def _load(
    url: str, nodes: subprocess.Popen[str], per_s: float, seconds: float
) -> list[dict[str, str | int | float]]:
    calm, kills, order = Phase(), Phase(), cycle(range(NODES))
    async with AsyncExitStack() as stack:
        clients = await _clients(stack, url, SESSIONS)
        await _slice(clients, per_s, 1.0, Phase())
        for _ in range(SLICES):
            await _slice(clients, per_s, seconds / SLICES, calm)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_kill, nodes, order, kills)
                await _slice(clients, per_s, seconds / SLICES, kills)
                nursery.cancel_scope.cancel()
            await trio.sleep(BACK_S)
    without, with_kills = calm.row(), kills.row()
    added = {
        f"added_{name}": round(float(with_kills[name]) - float(without[name]), 2)
        for name in ("p50_ms", "p99_ms")
    }
    shared: dict[str, str | int | float] = {"impl": "linguad", "kind": "load", "asked_per_s": per_s}
    return [{**shared, "case": "calm", **without}, {**shared, "case": "kills", **with_kills, **added}]


def _under_load(rates: Iterable[float], seconds: float) -> Iterator[report.Row]:
    for per_s in rates:
        with processes.daemon({}) as daemon:
            nodes = ["bench.parts.mortal_node", f"{daemon.url}/ws/node", str(NODES), str(WORK_MS)]
            with processes.child(nodes) as process:
                processes.line(process)
                calm, kills = trio.run(_load, daemon.url, process, per_s, seconds)
                process.terminate()
                assert process.stdout is not None
                held = sum(int(text.split()[1]) for text in process.stdout)
        yield calm
        yield {**kills, "jobs_of_killed": held}


def _reasons(tallies: Iterable[Tally]) -> str:
    """All reasons of `missing_result`, counted."""
    total = sum((tally.missing for tally in tallies), Counter[str]())
    return ", ".join(f"{reason}: {count}" for reason, count in sorted(total.items()))


def verdicts(rows: Sequence[report.Row]) -> Iterator[str]:
    """The budgets of design 9, and that nothing is lost."""
    for kind, what in (
        ("death", "after a death, p99"),
        ("silent", "over the deadline of a silent node, p99"),
    ):
        worst = max((row for row in rows if row.get("kind") == kind), key=_p99_ms, default=None)
        fate = str(worst["fate"]) if worst else ""
        yield report.verdict(what, BUDGET_MS, "ms", _p99_ms(worst) if worst else None, fate)
    lost = sum(int(row.get("lost") or 0) for row in rows)
    yield report.verdict("utterances without any outcome", 0, "utterances", lost)


def _p99_ms(row: report.Row) -> float:
    return report.number(row, "p99_ms") or 0.0


def main() -> None:
    """Measure and print."""
    processes.end_with_children()
    parser = report.parser(__doc__)
    parser.add_argument("--seconds", type=float, help="of load with kills, and as much without (12; quick 4)")
    parser.add_argument("--rates", type=float, nargs="+", help="jobs/s to ask for (500 150; quick 500)")
    parser.add_argument("--times", type=int, help="deaths and silences of each kind (80; quick 20)")
    arguments = parser.parse_args()
    seconds = arguments.seconds or (4.0 if arguments.quick else 12.0)
    rates = arguments.rates or ([500.0] if arguments.quick else [500.0, 150.0])
    times = arguments.times or (20 if arguments.quick else 80)
    rows = [
        *_fates("death", ("reset", "end"), times, None),
        *_fates("silent", ("mute", "swallow"), times, DEADLINE_S),
        *_under_load(rates, seconds),
    ]
    report.show("failover", rows, as_json=arguments.json, verdicts=verdicts(rows))


if __name__ == "__main__":
    main()
