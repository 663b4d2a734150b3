"""Run benches one after another, show their tables, and renew bench/README.md with its plots.

`python -m bench` runs all of them, `python -m bench select hash` these two. With `--quick` nothing is
renewed: what the README says is of full runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib import import_module

from bench import report
from bench.parts import plots, readme

BENCHES = (
    "hash",
    "select",
    "dispatch",
    "roundtrip",
    "sessions",
    "failover",
    "memory",
    "heartbeat",
    "gateway",
    "hub",
    "fairness",
    "redis_link",
    "cluster",
)


def run(name: str, *arguments: str) -> list[report.Row]:
    """The rows of a bench, which is a process of its own; SystemExit if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", "--json", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"bench.{name} failed with exit code {done.returncode}")
    rows: list[report.Row] = json.loads(done.stdout)["rows"]
    return rows


def main() -> None:
    """Run what was asked for."""
    parser = report.parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}; all without one")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHES):
        parser.error(f"there is no bench {', '.join(sorted(unknown))}")
    for name in arguments.names or BENCHES:
        began = time.monotonic()
        rows = run(name, *(["--quick"] if arguments.quick else []))
        print(f"{name} took {time.monotonic() - began:.0f} s", file=sys.stderr)
        module = import_module(f"bench.{name}")
        verdicts = list(module.verdicts(rows)) if hasattr(module, "verdicts") else []
        report.show(name, rows, as_json=arguments.json, verdicts=verdicts)
        if not arguments.quick:
            shown = module.readable(rows) if hasattr(module, "readable") else rows
            readme.renew(name, shown, verdicts)
            plots.renew(name, rows)


if __name__ == "__main__":
    main()
