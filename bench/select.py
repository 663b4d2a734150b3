"""How long one `select` with its `release` takes in the node table.

Twins: `cython` and `python` are the two modules of linguad, `scan` loops over all nodes each time.
Fleets: `same` has 8 kinds of nodes with 12 pairs each; `mixed` has 2 000 language sets of up to 100 pairs.
A fill of 1 means that every slot is out: each measured step gives one slot back and finds it again.

Times are of the thread's CPU. All tables are measured in turns, in several rounds: `ns` is the best of the
rounds' medians, for others use the machine, and its caches, too; `worst_ns` is the worst of them.
"""

from __future__ import annotations

import gc
import random
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from math import inf
from statistics import median

from bench import report
from linguad import _hash, _hash_py

CAP = 4  # slots of a node, a usual value of real ones
AUDIO_S = 2.0  # seconds of speech in a job
NODES = (100, 1_000, 10_000, 100_000)
FILLS = (0.0, 0.5, 0.9, 1.0)
SLOW_NODES = 10_000  # largest fleet of the plain twins: more take minutes
STEPS = {"cython": 20_000, "python": 500, "scan": 20}  # different steps in one run
ROUNDS, RUNS = 5, 5  # of each cell, of each round

BUDGET_NS = 1_000
BUDGET_MORE_NS = 400  # at the most nodes, against the fewest


class Scan:
    """The naive table that peers have: a loop over all nodes, which filters and takes the least loaded."""

    def __init__(self, *, rng_seed: int = 1) -> None:
        self._nodes: list[Candidate] = []
        self._keys = 0

    def add_node(self, node_id: str, cap: int) -> int:
        self._nodes.append(Candidate(cap))
        return len(self._nodes) - 1

    def set_ready(self, row: int, ready: bool) -> None:
        self._nodes[row].ready = ready

    def add_key(self) -> int:
        self._keys += 1
        return self._keys - 1

    def join(self, key: int, row: int, speed: float = 1.0) -> None:
        self._nodes[row].keys.add(key)

    def select(self, key: int, route: int, audio_s: float) -> int:
        best, least = -1, inf
        for row, node in enumerate(self._nodes):
            if node.ready and node.used < node.cap and node.open_s < least and key in node.keys:
                best, least = row, node.open_s
        if best >= 0:
            self.take(best, audio_s)
        return best

    def take(self, row: int, audio_s: float) -> bool:
        self._nodes[row].used += 1
        self._nodes[row].open_s += audio_s
        return True

    def release(self, row: int, audio_s: float) -> None:
        self._nodes[row].used -= 1
        self._nodes[row].open_s -= audio_s


class Candidate:
    """A node of the naive table."""

    __slots__ = ("cap", "keys", "open_s", "ready", "used")

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.keys: set[int] = set()
        self.open_s = 0.0
        self.ready = False
        self.used = 0


Table = _hash_py.NodeTable | Scan
TWINS: dict[str, Callable[..., Table]] = {
    "cython": _hash.NodeTable,
    "python": _hash_py.NodeTable,
    "scan": Scan,
}


def pair_sets(fleet: str, random_: random.Random) -> list[list[int]]:
    """The language pairs (as numbers) of each kind of node."""
    if fleet == "same":
        return [random_.sample(range(40), 12) for _ in range(8)]
    sets = []
    for _ in range(2000):
        asr = random_.sample(range(20), random_.randint(1, 10))
        tts = random_.sample(range(20), random_.randint(1, 10))
        sets.append([source * 20 + target for source in asr for target in tts])
    return sets


class Fleet:
    """A table of nodes, and the slots that are out."""

    def __init__(self, impl: str, fleet: str, nodes: int) -> None:
        self._random = random.Random(7)
        sets = pair_sets(fleet, self._random)
        self.table = TWINS[impl](rng_seed=1)
        keys = {pair: self.table.add_key() for pair in sorted({pair for pairs in sets for pair in pairs})}
        self._keys_of: list[list[int]] = []
        for i in range(nodes):
            row = self.table.add_node(f"node-{i:08X}", CAP)
            self.table.set_ready(row, True)
            self._keys_of.append([keys[pair] for pair in sets[i % len(sets)]])
            for key in self._keys_of[row]:
                self.table.join(key, row)
        self.pairs_per_node = round(sum(map(len, self._keys_of)) / nodes, 1)
        self._slots = [row for row in range(nodes) for _ in range(CAP)]
        self._random.shuffle(self._slots)
        self._taken = 0

    def fill(self, fill: float) -> None:
        """Take slots at random, or give them back, until this part of all is out."""
        while self._taken < fill * len(self._slots):
            self.table.take(self._slots[self._taken], AUDIO_S)
            self._taken += 1
        while self._taken > fill * len(self._slots):
            self._taken -= 1
            self.table.release(self._slots[self._taken], AUDIO_S)

    def _step(self) -> tuple[int, int, int]:
        """A random row that has a slot out, or any if all is free, one of its keys, and a route."""
        row = self._slots[self._random.randrange(self._taken or len(self._slots))]
        return row, self._random.choice(self._keys_of[row]), self._random.getrandbits(64)

    def steps(self, count: int) -> Steps:
        """Steps that find somebody: each is run once here, which leaves the table as it was."""
        rows, keys, routes = array("i"), array("i"), array("Q")
        while len(rows) < count:
            row, key, route = self._step()
            if self._taken < len(self._slots):
                chosen = self.table.select(key, route, AUDIO_S)
                if chosen < 0:
                    continue
                self.table.release(chosen, AUDIO_S)
            rows.append(row)
            keys.append(key)
            routes.append(route)
        return rows, keys, routes


Steps = tuple[Sequence[int], Sequence[int], Sequence[int]]
"""Rows, keys and routes; packed, so that they take little of the caches."""


def run(table: Table, steps: Steps, full: bool) -> float:
    """Nanoseconds of one step."""
    select, release = table.select, table.release
    start = time.thread_time_ns()
    if full:
        for row, key, route in zip(*steps, strict=True):
            release(row, AUDIO_S)
            select(key, route, AUDIO_S)
    else:
        for _, key, route in zip(*steps, strict=True):
            release(select(key, route, AUDIO_S), AUDIO_S)
    return (time.thread_time_ns() - start) / len(steps[0])


class Cell:
    """A table in each of its fills, and what was measured."""

    def __init__(self, impl: str, fleet: str, nodes: int) -> None:
        self._about: dict[str, report.Cell] = {"impl": impl, "fleet": fleet, "nodes": nodes}
        self._fleet = Fleet(impl, fleet, nodes)
        self._steps: dict[float, Steps] = {}
        self._medians: dict[float, list[float]] = {fill: [] for fill in FILLS}
        self._count = STEPS[impl]

    def measure(self) -> None:
        """One round."""
        for fill, medians in self._medians.items():
            self._fleet.fill(fill)
            if fill not in self._steps:
                self._steps[fill] = self._fleet.steps(self._count)
            table, steps, full = self._fleet.table, self._steps[fill], fill == 1.0
            run(table, steps, full)  # to warm up
            medians.append(median(run(table, steps, full) for _ in range(RUNS)))

    def rows(self) -> Iterator[report.Row]:
        """A row for each fill."""
        for fill, medians in self._medians.items():
            yield self._about | {
                "fill": fill,
                "pairs_per_node": self._fleet.pairs_per_node,
                "ns": round(min(medians), 1),
                "worst_ns": round(max(medians), 1),
            }


def verdicts(rows: Sequence[report.Row]) -> Iterator[str]:
    """The two budgets, and whether the compiled table keeps them."""
    ns = {
        (str(row["fleet"]), int(row["nodes"] or 0), float(row["fill"] or 0)): float(row["ns"] or 0)
        for row in rows
        if row["impl"] == "cython"
    }
    at = max(ns, key=ns.__getitem__)
    where = f"{at[0]}, {at[1]:,} nodes, fill {at[2]:g}"
    yield report.verdict("select and release", BUDGET_NS, "ns", ns[at], where)
    few, many = NODES[0], NODES[-1]
    more = {at: ns[at] - ns[at[0], few, at[2]] for at in ns if at[1] == many}
    worst = max(more, key=more.__getitem__, default=None)
    yield report.verdict(
        f"more at {many:,} nodes than at {few}",
        BUDGET_MORE_NS,
        "ns",
        more[worst] if worst else None,
        f"{worst[0]}, fill {worst[2]:g}" if worst else "",
    )


def readable(rows: Sequence[report.Row]) -> Sequence[report.Row]:
    """The same with a column for each fill: best and worst median."""
    wide: dict[tuple[object, ...], dict[str, report.Cell]] = {}
    for row in rows:
        facts = {name: row[name] for name in ("impl", "fleet", "nodes", "pairs_per_node")}
        fill = f"fill {row['fill']:g}, ns"
        wide.setdefault(tuple(facts.values()), facts)[fill] = f"{row['ns']:,.0f} / {row['worst_ns']:,.0f}"
    return list(wide.values())


def main() -> None:
    """Measure all of it."""
    args = report.parser(__doc__, smallest=True).parse_args()
    gc.disable()
    cells = [
        Cell(impl, fleet, nodes)
        for fleet in ("same", "mixed")
        for impl in TWINS
        for nodes in (NODES[:1] if args.smallest else NODES[::3] if args.quick else NODES)
        if impl == "cython" or nodes <= SLOW_NODES
    ]
    for _ in range(1 if args.smallest else 2 if args.quick else ROUNDS):
        for cell in cells:
            cell.measure()
    rows = [row for cell in cells for row in cell.rows()]
    report.show("select", rows, as_json=args.json, verdicts=verdicts(rows))


if __name__ == "__main__":
    main()
