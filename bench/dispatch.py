"""How long it takes from the end of an utterance until its job is handed to a node's socket.

Two times end at the same moment, when the kernel has the job for the node's socket, as it stamps it itself
(SO_TIMESTAMPNS), so that the node's own delay is in neither:

- `closed` begins when the server cuts the utterance, after its last message was read and decoded. The budget
  is for this. The daemon runs under bench/parts/stamped_daemon.py, which notes that moment and nothing else.
- `frame` begins when the client hands its last message to the kernel: wait for the loop, frames, JSON and the
  copies of both sockets are in it. It is frame in, frame out, seen from outside.

`queue` is the server's own word in the results, from the cut until the job is put into the node's outbox.

Kinds of rows: `utterance` (one message with the audio, at random moments, at rising rates), its `knee` (the
last rate at which p99 of `frame` is at most 10 ms; the climb ends when the server is behind), `chunks`
(256 ms pieces in real time and an empty final; no grace after it) and `fleet` (10 000 sessions with 1 000
nodes: `lost_beats` are heartbeats without an answer, of both).

Nodes work for a fixed time, so that `fill`, the share of slots that are taken, says how full they are. Load
and nodes are one process, the daemon is another. Each number is the median of rounds, with the lowest and the
highest. If `cpu_wait_cores`, how much of the time the daemon was ready and had no CPU, is not near 0, the
machine was busy with other things and the times say little.
"""

from __future__ import annotations

import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench import report
from bench.parts import processes
from bench.parts.bare import Loop
from bench.parts.bare_nodes import PAIRS, Manner, Nodes
from bench.parts.processes import Daemon
from bench.parts.talkers import PAYLOAD, SENTENCE_CHUNKS, Record, Talkers
from linguad.wire import opus

SETTINGS = {
    "LOG__LEVEL": "info",
    "SERVER__DRAIN_SECONDS": "0",
    "SESSIONS__MAX_SESSIONS_PER_ADDRESS": "0",
    "SESSIONS__FINAL_REORDER_GRACE_MS": "0",
}
AUDIO = opus.join([bytes(60)] * 322)  # 20 KB: 6 s of speech
SPOKEN = b64encode(AUDIO).decode()
MEAN_CHUNKS = sum(SENTENCE_CHUNKS) / 2
SENTENCE_S = 0.256 * MEAN_CHUNKS
WHERE = "same machine, one process with the nodes"
MANNER = Manner(slots=8, work_s=0.4)
NODES, SESSIONS = 100, 800
FRAME_MS = 10.0  # more at p99 is beyond the knee
FULL_CORE = 0.92  # so busy a loop is always behind
KEPT_UP = 0.95  # fewer answers than this part of what was sent are no keeping up
ANSWERS_S = 0.2  # after a round, beside the nodes' work, for its last answers
PATIENCE_S = 60.0  # for answers to heartbeats
AT_ONCE = 100  # connections opened before the others have their turn

BUDGET_P50_MS, BUDGET_P99_MS, BUDGET_FLEET_P99_MS = 0.3, 1.0, 10.0
BUDGET_JOBS, BUDGET_CHUNK_JOBS = 500, 100


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rates: Sequence[int] = (100, 250, 500, 750, 1000, 1500)
    chunk_jobs: int = BUDGET_CHUNK_JOBS
    fleet_rates: Sequence[int] = (100, 200)
    fleet: tuple[int, int] = (10_000, 1_000)
    """Sessions and nodes."""
    rounds: int = 3
    seconds: float = 3.0
    warm_s: float = 1.5
    nodes: int = NODES
    sessions: int = SESSIONS
    manner: Manner = MANNER


QUICK = Plan(
    rates=(50, 100, 250),
    fleet_rates=(100,),
    fleet=(1_000, 100),
    rounds=2,
    seconds=1.0,
    warm_s=0.6,
    nodes=20,
    sessions=200,
    manner=Manner(slots=32, work_s=0.2),
)
SMALLEST = Plan(
    rates=(50,),
    chunk_jobs=10,
    fleet_rates=(50,),
    fleet=(40, 10),
    rounds=1,
    seconds=0.5,
    warm_s=0.3,
    nodes=4,
    sessions=20,
    manner=Manner(slots=32, work_s=0.1),
)


@dataclass
class Round:
    """What was seen of one rate in one round."""

    record: Record
    seconds: float
    cpu_s: float
    waited_s: float
    busy: float


@dataclass
class Case:
    """All rounds of one rate; `facts` are its first columns."""

    facts: dict[str, report.Cell]
    rounds: list[Round] = field(default_factory=list)
    lost_beats: int | None = None


Cuts = Mapping[tuple[str, int], int]
"""When utterances were cut, by session and index, ns on the monotonic clock."""


class World:
    """A daemon with its nodes and sessions."""

    def __init__(self, daemon: Daemon, plan: Plan, sessions: int, nodes: int, manner: Manner) -> None:
        self._plan = plan
        self._pid = daemon.pid
        self._loop = Loop()
        self.nodes = Nodes(f"{daemon.url}/ws/node", self._loop, manner)
        self.talkers = Talkers(f"{daemon.url}/ws/session", loop=self._loop)
        for peers, count in ((self.nodes, nodes), (self.talkers, sessions)):
            for begun in range(0, count, AT_ONCE):
                peers.open(min(AT_ONCE, count - begun))
                self._loop.run(0.001)
        self._about: dict[str, report.Cell] = {
            "nodes": nodes,
            "pairs_per_node": PAIRS,
            "slots_per_node": manner.slots,
            "sessions": sessions,
        }
        self._slots = nodes * manner.slots

    def utter(self, kind: str, rates: Sequence[int]) -> Iterator[Case]:
        """Whole utterances at rising rates, until the server is behind."""
        for per_s in rates:
            self.talkers.utter(per_s, SPOKEN)
            case = self._case(kind, per_s, len(AUDIO), self.talkers.anyone.utterance(SPOKEN))
            self.run(case)
            yield case
            if any(self._behind(one) for one in case.rounds):
                break
        self.talkers.utter(0)

    def talk(self, per_s: int, sessions: int) -> Case:
        """Sentences in chunks, in real time."""
        audio_bytes = round(MEAN_CHUNKS * len(PAYLOAD) * 3 / 4)
        case = self._case("chunks", per_s, audio_bytes, self.talkers.anyone.chunk(PAYLOAD))
        self.talkers.talk(sessions)
        self.run(case)
        return case

    def run(self, case: Case) -> None:
        """All rounds of a case, after a moment to warm up."""
        self._loop.run(self._plan.warm_s)
        for _ in range(self._plan.rounds):
            case.rounds.append(self._round())
            self._loop.run(ANSWERS_S + self.nodes.manner.work_s)
            if self._behind(case.rounds[-1]):
                break

    def lost_beats(self) -> int:
        """Heartbeats so far that get no answer, however long it takes; those of sessions and of nodes."""
        peers: tuple[Nodes | Talkers, ...] = (self.nodes, self.talkers)
        sent = [one.beats for one in peers]
        patience = time.monotonic() + PATIENCE_S
        while True:
            lost = sum(max(0, count - one.beats_answered) for one, count in zip(peers, sent, strict=True))
            if not lost or time.monotonic() > patience:
                return lost
            self._loop.run(0.1)

    def _case(self, kind: str, per_s: int, audio_bytes: int, message: str) -> Case:
        sizes: dict[str, report.Cell] = {"audio_bytes": audio_bytes, "message_bytes": len(message)}
        first: dict[str, report.Cell] = {"impl": "linguad", "kind": kind, "asked_per_s": per_s}
        return Case(first | self._about | sizes | {"load": WHERE})

    def _round(self) -> Round:
        pid, plan = self._pid, self._plan
        with self.talkers.recording() as record:
            began, cpu_s, waited_s = time.monotonic(), processes.cpu_s(pid), processes.waited_s(pid)
            self._loop.run(plan.seconds)
            took = time.monotonic() - began
            cpu_s, waited_s = processes.cpu_s(pid) - cpu_s, processes.waited_s(pid) - waited_s
        return Round(record, took, cpu_s, waited_s, self.nodes.busy / self._slots)

    def _behind(self, one: Round) -> bool:
        answered = len(one.record.answers)
        return one.cpu_s / one.seconds >= FULL_CORE or answered < KEPT_UP * one.record.sentences

    def close(self) -> None:
        """End it."""
        self.nodes.close()
        self.talkers.close()


@contextmanager
def _world(
    plan: Plan, sessions: int, nodes: int, manner: Manner, cuts: dict[tuple[str, int], int]
) -> Iterator[World]:
    """A world; after it `cuts` has what its daemon noted."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "cuts")
        program = ("bench.parts.stamped_daemon", str(path))
        with processes.daemon(SETTINGS, program) as daemon, ExitStack() as stack:
            world = World(daemon, plan, sessions, nodes, manner)
            stack.callback(world.close)
            yield world
        for line in path.read_text().splitlines():
            session, index, at = line.split()
            cuts[session, int(index)] = int(at)


def _row(case: Case, cuts: Cuts) -> report.Row:
    rounds, facts = case.rounds, case.facts
    answered = sum(len(one.record.answers) for one in rounds)
    sent, seconds = sum(one.record.sentences for one in rounds), sum(one.seconds for one in rounds)
    late = sorted(late for one in rounds for late in one.record.late_ns)
    closed = [
        [(answer.node_at - cuts[answer.session_id, answer.index]) / 1e6 for answer in one.record.answers]
        for one in rounds
    ]
    frame = [[(answer.node_at - answer.final_at) / 1e6 for answer in one.record.answers] for one in rounds]
    problems = sum((one.record.others for one in rounds), start=type(rounds[0].record.others)())
    queue = [answer.breakdown.queue_ms for one in rounds for answer in one.record.answers if answer.breakdown]
    cpu_s = sum(one.cpu_s for one in rounds)
    row: dict[str, report.Cell] = {
        **facts,
        "fill": round(median(one.busy for one in rounds), 2),
        "jobs_per_s": round(answered / seconds, 1),
        "jobs": answered,
        "unanswered": sent - answered,
        "problems": ", ".join(f"{name}: {count}" for name, count in sorted(problems.items())),
        **_spread("closed", closed),
        **_spread("frame", frame),
        **report.percentiles("queue", queue),
        "cpu_cores": round(cpu_s / seconds, 3),
        "cpu_us_per_job": round(cpu_s / answered * 1e6, 1) if answered else None,
        "cpu_wait_cores": round(sum(one.waited_s for one in rounds) / seconds, 3),
        "sent_late_p99_ms": round(report.percentile(late, 99) / 1e6, 3),
    }
    return row if case.lost_beats is None else row | {"lost_beats": case.lost_beats}


def _spread(name: str, rounds: Sequence[Sequence[float]]) -> dict[str, float]:
    """Both percentiles of each round: the median of the rounds, the lowest and the highest."""
    ordered = [sorted(values) for values in rounds if values]
    return {
        key: value
        for percent in (50, 99)
        for key, value in report.middle(
            f"{name}_p{percent}", "ms", [report.percentile(values, percent) for values in ordered]
        ).items()
    }


def _utterances(plan: Plan) -> Iterator[report.Row]:
    cuts: dict[tuple[str, int], int] = {}
    with _world(plan, plan.sessions, plan.nodes, plan.manner, cuts) as world:
        cases = list(world.utter("utterance", plan.rates))
    rows = [_row(case, cuts) for case in cases]
    yield from rows
    good = [row for row in rows if _keeps_up(row)]
    beyond: report.Row = next((row for row in rows if not _keeps_up(row)), {})
    yield {
        "impl": "linguad",
        "kind": "knee",
        "asked_per_s": good[-1]["asked_per_s"] if good else 0,
        "frame_p99_ms": good[-1]["frame_p99_ms"] if good else None,
        "next_asked_per_s": beyond.get("asked_per_s"),
        "next_frame_p99_ms": beyond.get("frame_p99_ms"),
        "next_cpu_cores": beyond.get("cpu_cores"),
    }


def _keeps_up(row: report.Row) -> bool:
    frame, sent = report.number(row, "frame_p99_ms"), report.number(row, "jobs") or 0.0
    lost = report.number(row, "unanswered") or 0.0
    return frame is not None and frame <= FRAME_MS and sent >= KEPT_UP * (sent + lost)


def _chunks(plan: Plan) -> Iterator[report.Row]:
    cuts: dict[tuple[str, int], int] = {}
    sessions = round(plan.chunk_jobs * SENTENCE_S)
    with _world(plan, sessions, plan.nodes, plan.manner, cuts) as world:
        case = world.talk(plan.chunk_jobs, sessions)
    yield _row(case, cuts)


def _fleet(plan: Plan) -> Iterator[report.Row]:
    cuts: dict[tuple[str, int], int] = {}
    wanted = sum(plan.fleet)
    part = min(1.0, processes.allow_sockets(wanted) / wanted)
    sessions, nodes = (int(count * part) for count in plan.fleet)
    with _world(plan, sessions, nodes, plan.manner, cuts) as world:
        cases = list(world.utter("fleet", plan.fleet_rates))
        lost_beats = world.lost_beats()
    for case in cases:
        case.lost_beats = lost_beats
        yield _row(case, cuts)


def verdicts(rows: Sequence[report.Row]) -> Iterator[str]:
    """The budgets of design 9."""
    at_500 = report.pick(rows, kind="utterance", asked_per_s=BUDGET_JOBS) or {}
    chunks = report.pick(rows, kind="chunks", asked_per_s=BUDGET_CHUNK_JOBS) or {}
    for what, row in (
        (f"utterances of {round(len(AUDIO) / 1000)} KB, {BUDGET_JOBS} jobs/s", at_500),
        (f"chunks of 256 ms, {BUDGET_CHUNK_JOBS} jobs/s", chunks),
    ):
        for percent, limit in ((50, BUDGET_P50_MS), (99, BUDGET_P99_MS)):
            measured = report.number(row, f"closed_p{percent}_ms")
            frame = report.number(row, f"frame_p{percent}_ms")
            where = "" if frame is None else f"frame in, frame out {report.short(frame)} ms"
            yield report.verdict(f"{what}, closed to socket p{percent}", limit, "ms", measured, where)
    whole = [
        row
        for row in rows
        if row.get("kind") == "fleet" and (row["sessions"], row["nodes"]) == (10_000, 1_000)
    ]
    for row in whole or [{}]:
        rate = f" at {row['asked_per_s']} jobs/s" if row else ""
        yield report.verdict(
            f"10,000 sessions and 1,000 nodes{rate}, closed to socket p99",
            BUDGET_FLEET_P99_MS,
            "ms",
            report.number(row, "closed_p99_ms"),
        )
    lost = [report.number(row, "lost_beats") or 0.0 for row in whole]
    yield report.verdict(
        "10,000 sessions and 1,000 nodes, lost heartbeats", 0, "heartbeats", max(lost, default=None)
    )


PARTS = {"utterance": _utterances, "chunks": _chunks, "fleet": _fleet}


def main() -> None:
    """Measure and print."""
    processes.end_with_children()
    parser = report.parser(__doc__, smallest=True)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="measure only this")
    arguments = parser.parse_args()
    plan = SMALLEST if arguments.smallest else QUICK if arguments.quick else Plan()
    rows = [row for name in arguments.only for row in PARTS[name](plan)]
    report.show("dispatch", rows, as_json=arguments.json, verdicts=verdicts(rows))


if __name__ == "__main__":
    main()
