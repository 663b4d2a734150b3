"""Play one simulated run, or many: `python -m tests.sim --seed N` prints its event log."""

from __future__ import annotations

import argparse
import sys

from .run import run


def main() -> int:
    """Exit code 1 when a run went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the run, or the first of many")
    parser.add_argument(
        "--runs", type=int, default=1, help="how many seeds; more than one prints no event log"
    )
    arguments = parser.parse_args()
    failed = 0
    for seed in range(arguments.seed, arguments.seed + arguments.runs):
        found = run(seed, print if arguments.runs == 1 else None)
        failed += bool(found)
        for problem in found:
            print(f"seed {seed}: {problem}")
    print(f"{arguments.runs} runs, {failed} with problems")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
