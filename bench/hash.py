"""How long the hashes of pools take: `pool_id_for_key` of a 36-byte key, and `fnv1a64` of others.

Twins: `cython` and `python` are the two modules of linguad. Times are of the thread's CPU, and the call from
Python is in them. All are measured in turns, in several rounds: `ns` is the median of the rounds, with the
lowest and the highest of them.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import repeat
from types import ModuleType

from bench import report
from linguad import _hash, _hash_py

TWINS: dict[str, ModuleType] = {"cython": _hash, "python": _hash_py}
KEY_BYTES = 36  # of a session id
LENGTHS = (8, 36, 100, 1_000)
POOLS, SEED = 17, 1
CALLS = {"cython": 50_000, "python": 500}  # of one run
ROUNDS = 15
BUDGET_NS = 100


Measurement = Callable[[int], float]
"""Ns of one call, over so many calls."""


def cases(module: ModuleType) -> Iterator[tuple[str, int, Measurement]]:
    """What is measured: function, bytes of its key, and how."""
    yield "pool_id_for_key", KEY_BYTES, partial(_pool_id, module.pool_id_for_key, "k" * KEY_BYTES)
    for length in LENGTHS:
        yield "fnv1a64", length, partial(_hash_of, module.fnv1a64, "k" * length)


def _pool_id(pool_id_for_key: Callable[[int, int, str], int], key: str, calls: int) -> float:
    start = time.thread_time_ns()
    for _ in repeat(None, calls):
        pool_id_for_key(POOLS, SEED, key)
    return _each(start, calls)


def _hash_of(fnv1a64: Callable[[str, int], int], key: str, calls: int) -> float:
    start = time.thread_time_ns()
    for _ in repeat(None, calls):
        fnv1a64(key, SEED)
    return _each(start, calls)


def _each(start: int, calls: int) -> float:
    """Ns of one call since `start`, without those of the loop itself."""
    end = time.thread_time_ns()
    for _ in repeat(None, calls):
        pass
    return (end - start - (time.thread_time_ns() - end)) / calls


def verdicts(rows: Sequence[report.Row]) -> Iterator[str]:
    """The budget of design 9."""
    row = report.pick(rows, impl="cython", function="pool_id_for_key") or {}
    yield report.verdict(
        f"pool_id_for_key of a {KEY_BYTES}-byte key", BUDGET_NS, "ns", report.number(row, "ns")
    )


def main() -> None:
    """Measure and print."""
    arguments = report.parser(__doc__, smallest=True).parse_args()
    rounds, part = (1, 20) if arguments.smallest else (5, 4) if arguments.quick else (ROUNDS, 1)
    gc.disable()
    measured: dict[tuple[str, str, int], list[float]] = {}
    for number in range(rounds + 1):
        for impl, module in TWINS.items():
            for function, size, measure in cases(module):
                ns = measure(CALLS[impl] // part)
                if number:  # the first round is to warm up
                    measured.setdefault((impl, function, size), []).append(ns)
    rows: list[report.Row] = [
        {"impl": impl, "function": function, "key_bytes": size, **report.middle("", "ns", times, 1)}
        for (impl, function, size), times in measured.items()
    ]
    report.show("hash", rows, as_json=arguments.json, verdicts=verdicts(rows))


if __name__ == "__main__":
    main()
