"""How long an utterance takes from a client through linguad to a node and back, beside a bare relay.

The relay is trio-websocket and nothing else (bench/parts/relay.py). Both serve the same clients and echo
nodes with the same audio, in turns within one run; ratios are linguad : relay. Each session sends its
next utterance when it has the answer to the last one. `chunks` is a sentence of 3 s in 256 ms pieces, timed
from its final. Server, relay, nodes and load are processes of their own. Each number is the median of rounds,
with the lowest and the highest.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from itertools import product
from operator import itemgetter

import trio
from trio_websocket import WebSocketConnection

from bench import report
from bench.parts import processes
from linguad.net import dial
from linguad.wire import codec, opus
from linguad.wire.session import AudioChunk, SessionInit, SessionInitAck, Utterance

IMPLS = ("linguad", "relay")
NODES = 4
PACKET = bytes(60)  # an Opus packet of speech at 24 kbit/s
CHUNK = opus.join([PACKET] * 13)  # what a browser sends for 256 ms
CHUNKS = 12  # in a spoken sentence of 3 s
ANSWER_S = 30  # a lost answer ends the bench
BUDGET_LATENCY, BUDGET_THROUGHPUT = 1.25, 0.8


@dataclass(frozen=True)
class Case:
    """One measurement: so many bytes of audio, as an utterance or in chunks, from so many sessions."""

    kind: str
    audio_bytes: int
    sessions: int


@dataclass
class Taken:
    """What one server did in a round of a case: latencies (ms), wall time and its own CPU time (s)."""

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_s: float = 0.0


class Client:
    """One session at one of the two servers; it keeps asking for the same thing."""

    def __init__(self, ws: WebSocketConnection, session_id: str) -> None:
        self._ws = ws
        self._session_id = session_id
        self._index = 0
        self._seq = 0

    async def ask(self, case: Case) -> float:
        """Send one utterance and wait for its result; ms from its last message on."""
        *first, last = self._utterance(case) if case.kind == "utterance" else self._chunks()
        for text in first:
            await self._ws.send_message(text)
        began = time.perf_counter_ns()
        await self._ws.send_message(last)
        while True:
            answer = await self._ws.get_message()
            assert isinstance(answer, str)
            kind = answer[:40]
            if '"translation_result"' in kind:
                return (time.perf_counter_ns() - began) / 1e6
            if '"ui_event"' not in kind:
                raise SystemExit(f"unexpected answer: {answer[:200]}")

    def _utterance(self, case: Case) -> list[str]:
        message = Utterance(
            session_id=self._session_id,
            utterance_index=self._index,
            manual_cut=True,
            src_lang="en",
            tgt_lang="es",
            audio=_speech(case.audio_bytes),
            audio_format="opus",
            sample_rate=16000,
        )
        self._index += 1
        return [codec.encode(message)]

    def _chunks(self) -> list[str]:
        payloads = [_speech(len(CHUNK))] * CHUNKS + [""]
        self._seq += len(payloads)
        return [
            codec.encode(
                AudioChunk(session_id=self._session_id, seq=seq, is_final=not payload, payload=payload)
            )
            for seq, payload in enumerate(payloads, start=self._seq - len(payloads))
        ]


_encoded: dict[int, str] = {}


def _speech(size: int) -> str:
    """Base64 of about so many bytes of Plan A audio."""
    if size not in _encoded:
        packet = PACKET[: min(len(PACKET), size)]
        _encoded[size] = b64encode(opus.join([packet] * max(1, size // (len(packet) + 2)))).decode()
    return _encoded[size]


async def _clients(stack: AsyncExitStack, impl: str, url: str, count: int) -> list[Client]:
    clients = []
    for number in range(count):
        ws = await stack.enter_async_context(dial.websocket(url))
        session_id = f"s-{number:024}"
        if impl == "linguad":
            init = SessionInit(client_version="bench", platform="web", src_lang="en", tgt_lang="es")
            await ws.send_message(codec.encode(init))
            ack = codec.server_messages.decode(await ws.get_message())
            assert isinstance(ack, SessionInitAck), ack
            session_id = ack.session_id
        clients.append(Client(ws, session_id))
    return clients


async def _round(clients: Sequence[Client], case: Case, seconds: float, taken: Taken) -> None:
    """Let all clients ask for some seconds."""
    until = time.perf_counter() + seconds

    async def keep_asking(client: Client) -> None:
        while time.perf_counter() < until:
            with trio.fail_after(ANSWER_S):
                taken.latencies.append(await client.ask(case))

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(keep_asking, client)
    taken.seconds = time.perf_counter() - began


async def _measure(
    urls: dict[str, str], pids: dict[str, int], cases: Sequence[Case], quick: bool
) -> list[report.Row]:
    rounds, seconds = (2, 0.5) if quick else (5, 0.6)
    rows: list[report.Row] = []
    async with AsyncExitStack() as stack:
        most = max(case.sessions for case in cases)
        clients = {impl: await _clients(stack, impl, urls[impl], most) for impl in IMPLS}
        for case in cases:
            taken: dict[str, list[Taken]] = {impl: [] for impl in IMPLS}
            for impl in IMPLS:
                await _round(clients[impl][: case.sessions], case, seconds / 4, Taken())
            for impl in IMPLS * rounds:
                before, one = processes.cpu_s(pids[impl]), Taken()
                await _round(clients[impl][: case.sessions], case, seconds, one)
                one.cpu_s = processes.cpu_s(pids[impl]) - before
                taken[impl].append(one)
            rows += _rows(case, taken)
    return rows


def _rows(case: Case, taken: dict[str, list[Taken]]) -> Iterator[report.Row]:
    numbers = {impl: [_numbers(one) for one in taken[impl]] for impl in IMPLS}
    shared: dict[str, str | int] = {
        "kind": case.kind,
        "audio_bytes": case.audio_bytes,
        "sessions": case.sessions,
    }
    for impl in IMPLS:
        jobs = sum(len(one.latencies) for one in taken[impl])
        yield {"impl": impl, **shared, "jobs": jobs, **_middles(numbers[impl])}
    ratios = [
        {
            "latency_ratio": linguad["p50_ms"] / relay["p50_ms"],
            "throughput_ratio": linguad["jobs_per_s"] / relay["jobs_per_s"],
        }
        for linguad, relay in zip(*(numbers[impl] for impl in IMPLS), strict=True)
    ]
    yield {"impl": "ratio", **shared, **_middles(ratios)}


def _numbers(taken: Taken) -> dict[str, float]:
    latencies = sorted(taken.latencies)
    jobs = len(latencies)
    return {
        "p50_ms": report.percentile(latencies, 50),
        "p99_ms": report.percentile(latencies, 99),
        "jobs_per_s": jobs / taken.seconds,
        "cpu_us_per_job": taken.cpu_s / jobs * 1e6,
    }


def _middles(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of each number the median of the rounds, the lowest and the highest."""
    middles: dict[str, float] = {}
    for name in rounds[0]:
        stem, _, unit = name.rpartition("_")
        middles |= report.middle(stem, unit, [one[name] for one in rounds])
    return middles


def verdicts(rows: Sequence[report.Row]) -> Iterator[str]:
    """The budgets of design 9, at the row that is furthest from them."""
    ratios = [row for row in rows if row["impl"] == "ratio"]
    for what, name, limit, least in (
        ("latency against the relay", "latency_ratio", BUDGET_LATENCY, False),
        ("throughput against the relay", "throughput_ratio", BUDGET_THROUGHPUT, True),
    ):
        worst = (min if least else max)(ratios, key=itemgetter(name))
        where = f"{worst['kind']}, {worst['audio_bytes']:,} bytes, {worst['sessions']} sessions"
        yield report.verdict(what, limit, "times", report.number(worst, name), where, least=least)


def main() -> None:
    """Measure and print."""
    processes.end_with_children()
    arguments = report.parser(__doc__).parse_args()
    sessions = (1, 8) if arguments.quick else (1, 8, 32)
    sizes = (("utterance", 1_000), ("utterance", 20_000), ("chunks", CHUNKS * len(CHUNK)))
    cases = [Case(kind, size, count) for (kind, size), count in product(sizes, sessions)]
    with ExitStack() as stack:
        # By design an empty final waits so long for a late chunk; here the rest of the way counts.
        settings = {
            "SESSIONS__FINAL_REORDER_GRACE_MS": "0",
            "SESSIONS__BURST_CUTS": "0",
            "LOG__LEVEL": "info",
        }
        server = stack.enter_context(processes.daemon(settings))
        relay = stack.enter_context(processes.child(["bench.parts.relay"]))
        hosts = {"linguad": server.url, "relay": f"ws://127.0.0.1:{processes.line(relay)}"}
        nodes = [word for impl in IMPLS for word in (f"--{impl}", f"{hosts[impl]}/ws/node")]
        processes.line(stack.enter_context(processes.child(["bench.parts.echo_node", str(NODES), *nodes])))
        pids = {"linguad": server.pid, "relay": relay.pid}
        urls = {impl: f"{host}/ws/session" for impl, host in hosts.items()}
        rows = trio.run(_measure, urls, pids, cases, arguments.quick)
    report.show("roundtrip", rows, as_json=arguments.json, verdicts=verdicts(rows))


if __name__ == "__main__":
    main()
