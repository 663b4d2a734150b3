"""`linguad load`: many people talk at a running server, and what became of it (docs/testing.md)."""

from __future__ import annotations

import argparse
import json
import math
import sys
from array import array
from pathlib import Path
from random import Random
from typing import Any

import trio
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from linguad import audio, client
from linguad.commands.amounts import amount, count
from linguad.commands.speakers import NO_LOSS, STEPS, Plan, Record, crowd, schedule
from linguad.commands.translate import add_session_argument, language
from linguad.errors import AudioError

LONGEST_S = 8.0
"""Longest utterance, s: the server cuts longer ones in pieces of 10 s, which would be answered one by one."""

USUAL_S = 6.0
"""From one utterance of a person to the next, unless a rate is given."""

HERTZ, PEAK = 220.0, 8000
PERCENTS = (50, 90, 99)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad load`."""
    add = parser.add_argument
    add_session_argument(parser)
    add("--sessions", metavar="N", type=count, default=10, help="people who talk (default: 10)")
    add("--utterances", metavar="N", type=count, default=10, help="what each of them says (default: 10)")
    add(
        "--rate",
        metavar="R",
        type=amount,
        help=f"utterances per second, of all people (default: one of each in {USUAL_S:g} s)",
    )
    add("--from", dest="src", metavar="LANG", type=language, default="en", help="spoken (default: en)")
    add("--to", dest="tgt", metavar="LANG", type=language, default="es", help="wanted (default: es)")
    add("--file", metavar="FILE", type=Path, help=f"what is said, up to {LONGEST_S:g} s of WAV, FLAC or Ogg")
    add("--seconds", metavar="S", type=_seconds, default=2.0, help="without --file: so much of a tone (2)")
    add("--realtime", action="store_true", help="send at the pace of speech, not an utterance at once")
    add("--timeout", metavar="S", type=amount, default=60.0, help="wait for the last answers so long (60)")
    add("--seed", type=int, default=1, metavar="N", help="of all chance (1)")
    add("--json", action="store_true", help="print one JSON object instead of tables")


def run(args: argparse.Namespace) -> int:
    """Talk: 0 if every utterance was answered, 1 if not. Raises AudioError."""
    record, took_s = trio.run(_run, args)
    told = report(record, args.sessions, took_s)
    if args.json:
        print(json.dumps(told, indent=2))
    else:
        _show(told)
    lost = sum(number for outcome, number in record.outcomes.items() if outcome not in NO_LOSS)
    if lost:
        print(f"linguad load: {lost} of {record.planned} utterances had no result", file=sys.stderr)
    return 1 if lost else 0


async def _run(args: argparse.Namespace) -> tuple[Record, float]:
    payloads, seconds = await trio.to_thread.run_sync(_speech, args.file, args.seconds)
    plan = Plan(args.server, args.src, args.tgt, payloads, seconds, args.realtime, args.timeout)
    record = Record(planned=args.sessions * args.utterances)
    rate = args.rate or args.sessions / USUAL_S
    times = schedule(args.sessions, args.utterances, rate, Random(args.seed))
    with _progress() as progress:
        task = progress.add_task("talking", total=record.planned)
        record.changed = lambda: progress.update(task, completed=record.outcomes.total())
        took_s = await crowd(plan, record, times)
    return record, took_s


def _speech(file: Path | None, seconds: float) -> tuple[list[bytes], float]:
    """The chunks of an utterance and its length, s. Raises AudioError."""
    if file is None:
        wave = (
            PEAK * math.sin(2 * math.pi * HERTZ * n / audio.WIRE_RATE)
            for n in range(int(seconds * audio.WIRE_RATE))
        )
        pcm = array("h", map(int, wave)).tobytes()
    else:
        pcm, seconds = audio.read_audio_file(file)
        if seconds > LONGEST_S:
            raise AudioError(f"{file} is {seconds:.1f} s long; an utterance may have {LONGEST_S:g} s")
    return client.encode_chunks(pcm), seconds


def report(record: Record, sessions: int, took_s: float) -> dict[str, Any]:
    """What happened, as numbers: times in ms, outcomes by name, most frequent first."""
    return {
        "sessions": sessions,
        "sessions_failed": record.sessions_failed,
        "reconnects": record.reconnects,
        "utterances": record.planned,
        "seconds": round(took_s, 3),
        "utterances_per_s": round(record.said / took_s, 2) if took_s else 0.0,
        "outcomes": dict(record.outcomes.most_common()),
        "late": _percentiles(record.late_ms),
        "latency": _percentiles(record.latencies_ms),
        "stages": {step: found for step in STEPS if (found := _percentiles(record.stages_ms[step]))},
        "problems": dict(record.problems.most_common()),
    }


def _percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    if not ordered:
        return {}
    found = {
        f"p{percent}_ms": ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]
        for percent in PERCENTS
    }
    return {name: round(value, 3) for name, value in {**found, "max_ms": ordered[-1]}.items()}


def _show(told: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(
        f"{told['utterances']} utterances of {told['sessions']} sessions in {told['seconds']:.1f} s, "
        f"{told['utterances_per_s']:g} a second",
        soft_wrap=True,
    )
    table = Table(box=box.SIMPLE_HEAD, title="ms", title_justify="left")
    for name in ("", *(f"p{percent}" for percent in PERCENTS), "longest"):
        table.add_column(name, justify="right" if name else "left")
    for name, found in (
        ("begun later than due", told["late"]),
        ("final to result, here", told["latency"]),
        *told["stages"].items(),
    ):
        if found:
            table.add_row(name, *(f"{value:,.1f}" for value in found.values()))
    if told["late"]:
        console.print(table)
    outcomes = Table(box=box.SIMPLE_HEAD)
    for name in ("outcome", "utterances", "%"):
        outcomes.add_column(name, justify="left" if name == "outcome" else "right")
    for outcome, number in told["outcomes"].items():
        outcomes.add_row(outcome, str(number), f"{100 * number / told['utterances']:.1f}")
    console.print(outcomes)
    if told["reconnects"]:
        console.print(f"{told['reconnects']} connections were lost and made again")
    for problem, number in told["problems"].items():
        console.print(f"{number} of {told['sessions']} sessions: {problem}", soft_wrap=True, markup=False)


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _seconds(text: str) -> float:
    value = amount(text)
    if not 0.5 <= value <= LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0.5 to {LONGEST_S:g}")
    return value
