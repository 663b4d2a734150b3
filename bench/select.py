"""How long one `select` with its `release` takes in the node table.

Twins: `cython` and `python` are the two modules of linguad, `scan` looks at every row of the key each time.
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
from statistics import median

from bench import report
from linguad import _hash, _hash_py

CAP = 4  # slots of a node, a usual value of real ones
AUDIO_S = 2.0  # seconds of speech in a job
NODES = (100, 1_000, 10_000, 100_000)
FILLS = (0.0, 0.5, 0.9, 1.0)
SLOW_NODES = 10_000  # largest fleet of the plain twins: more take minutes
STEPS = {"cython": 20_000, "python": 500, "scan": 20}  # different steps in one run
ROUNDS, RUNS = 7, 7  # of each cell, of each round

BUDGET_NS = 1_000
BUDGET_MORE_NS = 400  # at the most nodes, against the fewest


class Scan:
    """The naive table: looks at every row of the key."""

    def __init__(self, *, rng_seed: int = 1) -> None:
        self._cap: list[int] = []
        self._used: list[int] = []
        self._open_s: list[float] = []
        self._keys: list[list[int]] = []

    def add_node(self, node_id: str, cap: int) -> int:
        self._cap.append(cap)
        self._used.append(0)
        self._open_s.append(0.0)
        return len(self._cap) - 1

    def set_ready(self, row: int, ready: bool) -> None:
        pass

    def add_key(self) -> int:
        self._keys.append([])
        return len(self._keys) - 1

    def join(self, key: int, row: int, speed: float = 1.0) -> None:
        self._keys[key].append(row)

    def select(self, key: int, route: int, audio_s: float) -> int:
        free = [row for row in self._keys[key] if self._used[row] < self._cap[row]]
        best = min(free, key=self._open_s.__getitem__, default=-1)
        if best >= 0:
            self.take(best, audio_s)
        return best

    def take(self, row: int, audio_s: float) -> bool:
        self._used[row] += 1
        self._open_s[row] += audio_s
        return True

    def release(self, row: int, audio_s: float) -> None:
        self._used[row] -= 1
        self._open_s[row] -= audio_s


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
        self._about = {"impl": impl, "fleet": fleet, "nodes": nodes}
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
    yield f"at most {BUDGET_NS:,} ns: {_kept(ns[at], BUDGET_NS)} ({at[0]}, {at[1]:,} nodes, fill {at[2]:g})"
    few, many = NODES[0], NODES[-1]
    more = {at: ns[at] - ns[at[0], few, at[2]] for at in ns if at[1] == many}
    if not more:
        yield f"at {many:,} nodes at most {BUDGET_MORE_NS} ns more than at {few}: not measured"
        return
    worst = max(more, key=more.__getitem__)
    yield (
        f"at {many:,} nodes at most {BUDGET_MORE_NS} ns more than at {few}: "
        f"{_kept(more[worst], BUDGET_MORE_NS)} ({worst[0]}, fill {worst[2]:g})"
    )


def _kept(ns: float, budget_ns: int) -> str:
    return f"{'kept' if ns <= budget_ns else 'NOT KEPT'}, {ns:,.0f} ns"


def main() -> None:
    """Measure all of it."""
    args = report.parser(__doc__).parse_args()
    gc.disable()
    cells = [
        Cell(impl, fleet, nodes)
        for fleet in ("same", "mixed")
        for impl in TWINS
        for nodes in (NODES[::2] if args.quick else NODES)
        if impl == "cython" or nodes <= SLOW_NODES
    ]
    for _ in range(2 if args.quick else ROUNDS):
        for cell in cells:
            cell.measure()
    rows = [row for cell in cells for row in cell.rows()]
    report.show("select", rows, as_json=args.json)
    if not args.json:
        print(*verdicts(rows), sep="\n")


if __name__ == "__main__":
    main()
