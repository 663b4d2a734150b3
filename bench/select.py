"""How long one `select` with its `release` takes in the node table.

Twins: `cython` and `python` are the two modules of linguad, `scan` looks at every row of the key each time.
Fleets: `same` has 8 kinds of nodes with 12 pairs each; `mixed` has 2 000 language sets of up to 100 pairs.
A fill of 1 means that every slot is out: each measured step gives one slot back and finds it again.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator

from bench import report
from linguad import _hash, _hash_py

CAP = 4  # slots of a node, a usual value of real ones
AUDIO_S = 2.0  # seconds of speech in a job
NODES = (100, 1_000, 10_000, 100_000)
FILLS = (0.0, 0.5, 0.9, 1.0)
SLOW_NODES = {"same": 100_000, "mixed": 10_000}  # largest fleets of the plain twins: more take minutes
STEPS = {"cython": 20_000, "python": 1_000, "scan": 20}  # different steps in one repetition


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
        """Take slots at random until this part of all is out; fills come in ascending order."""
        while self._taken < fill * len(self._slots):
            self.table.take(self._slots[self._taken], AUDIO_S)
            self._taken += 1

    def step(self) -> tuple[int, int, int]:
        """A random row that has a slot out, or any if all is free, one of its keys, and a route."""
        row = self._slots[self._random.randrange(self._taken or len(self._slots))]
        return row, self._random.choice(self._keys_of[row]), self._random.getrandbits(64)

    def steps(self, count: int) -> list[tuple[int, int, int]]:
        """Steps that find somebody: each is run once here, which leaves the table as it was."""
        found: list[tuple[int, int, int]] = []
        while len(found) < count:
            row, key, route = self.step()
            if self._taken == len(self._slots):
                found.append((row, key, route))
                continue
            chosen = self.table.select(key, route, AUDIO_S)
            if chosen >= 0:
                self.table.release(chosen, AUDIO_S)
                found.append((row, key, route))
        return found


def run(table: Table, steps: list[tuple[int, int, int]], full: bool) -> float:
    """Nanoseconds of one step."""
    select, release = table.select, table.release
    start = time.perf_counter_ns()
    if full:
        for row, key, route in steps:
            release(row, AUDIO_S)
            select(key, route, AUDIO_S)
    else:
        for _, key, route in steps:
            release(select(key, route, AUDIO_S), AUDIO_S)
    return (time.perf_counter_ns() - start) / len(steps)


def measure(impl: str, fleet: str, nodes: int, seconds: float) -> Iterator[dict[str, str | int | float]]:
    """A row for each fill: the best of the repetitions that fit into this time, as timeit does."""
    made = Fleet(impl, fleet, nodes)
    for fill in FILLS:
        made.fill(fill)
        steps = made.steps(STEPS[impl])
        best = run(made.table, steps, fill == 1.0)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            best = min(best, run(made.table, steps, fill == 1.0))
        yield {
            "impl": impl,
            "fleet": fleet,
            "nodes": nodes,
            "fill": fill,
            "pairs_per_node": made.pairs_per_node,
            "ns": round(best, 1),
        }


def main() -> None:
    """Measure all of it."""
    args = report.parser(__doc__).parse_args()
    gc.disable()
    rows = [
        row
        for fleet in ("same", "mixed")
        for impl in TWINS
        for nodes in (NODES[::2] if args.quick else NODES)
        if impl == "cython" or nodes <= SLOW_NODES[fleet]
        for row in measure(impl, fleet, nodes, 0.05 if args.quick else 0.3)
    ]
    report.show("select", rows, as_json=args.json)


if __name__ == "__main__":
    main()
