"""Play one simulated run, or many: `python -m tests.sim --seed N` prints its event log."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Iterable

from rich.progress import track

from . import several
from .run import run

Play = Callable[[int, Callable[[str], None] | None], list[str]]


def main() -> int:
    """Exit code 1 when a run went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the run, or the first of many")
    parser.add_argument(
        "--runs", type=int, default=1, help="how many seeds; more than one prints no event log"
    )
    parser.add_argument("--several", action="store_true", help="with several instances")
    arguments = parser.parse_args()
    play = several.run if arguments.several else run
    seeds: Iterable[int] = range(arguments.seed, arguments.seed + arguments.runs)
    if arguments.runs == 1:
        return 1 if _problems(play, arguments.seed, aloud=True) else 0
    if sys.stdout.isatty():
        seeds = track(seeds, "playing", total=arguments.runs)
    failed = [seed for seed in seeds if _problems(play, seed)]
    print(f"{arguments.runs} runs, {len(failed)} with problems")
    return 1 if failed else 0


def _problems(play: Play, seed: int, *, aloud: bool = False) -> bool:
    """Play a run and print what went wrong, if anything did."""
    try:
        found = play(seed, print if aloud else None)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other seeds are played
        found = [traceback.format_exc() if aloud else f"{type(error).__name__}: {error}"]
    for problem in found:
        print(f"seed {seed}: {problem}")
    if found:
        several_ = " --several" if play is several.run else ""
        print(f"replay: python -m tests.sim{several_} --seed {seed}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
