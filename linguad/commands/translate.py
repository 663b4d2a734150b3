"""`linguad translate FILE`: a sound file goes through a session as a real client would send it."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
from base64 import b64decode
from pathlib import Path
from typing import Any

import msgspec
import trio
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from linguad import audio, client
from linguad.commands.asking import on_this_machine
from linguad.commands.conversation import Answers, Conversation, TranslateError
from linguad.errors import AudioError, LinguadError
from linguad.net import dial
from linguad.wire.session import TranslationResult

NO_LOSS = frozenset({"silence_detected", "merged"})
"""Reasons for a missing result that lose nothing: there was no speech, or it is in another utterance."""

_CAUSES = {
    "no_available_node": "no node translates {src} to {tgt} right now; start one with: "
    "linguad node --server {node_url}",
    "node_overloaded": "all nodes are busy; try again in a moment",
    "node_lost": "the node went away at work and no other took over; try again",
    "job_timeout": "the node did not answer in time; try again, or a shorter file",
    "job_failed": "the node could not process the speech; its log says why",
}
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*|auto")
_STAGES = ("asr", "nmt", "tts")
_STEPS = ("cut", "queue", "send", "node", "reorder", "total")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add = parser.add_argument
    add("file", metavar="FILE", type=Path, help="speech: any WAV, FLAC or Ogg file")
    add("--from", dest="src", metavar="LANG", type=language, required=True, help="spoken: en, …, or auto")
    add("--to", dest="tgt", metavar="LANG", type=language, required=True, help="wanted: es, …")
    add("--out", metavar="WAV", type=_output, help="write the translated speech to this file")
    add_session_argument(parser)
    add("--json", action="store_true", help="print one JSON object instead of text")
    add("--realtime", action="store_true", help="send at the pace of speech, not as fast as possible")
    add("--timeout", metavar="S", type=_seconds, default=120.0, help="give up after S seconds; default: 120")


def run(args: argparse.Namespace) -> int:
    """Translate the file: 0 if all of it came back, 1 if not, with one sentence on standard error."""
    try:
        report = trio.run(_translate, args)
    except LinguadError as error:
        report = {"file": str(args.file), "error": str(error)}
    if args.json:
        print(json.dumps(report, ensure_ascii=False))
    elif "session_id" in report:
        _show(report)
    if report["error"] is not None:
        print(f"linguad translate: {report['error']}", file=sys.stderr)
        return 1
    return 0


async def _translate(args: argparse.Namespace) -> dict[str, Any]:
    started = time.monotonic()
    pcm, seconds = await trio.to_thread.run_sync(audio.read_audio_file, args.file)
    payloads = await trio.to_thread.run_sync(client.encode_chunks, pcm)
    with _progress() as progress:
        task = progress.add_task("sending", total=seconds)
        async with client.open_session(args.server, args.src, args.tgt) as session:
            conversation = Conversation(
                session,
                seconds,
                on_sent=lambda sent: progress.update(task, completed=sent),
                on_reconnect=lambda event: progress.console.print(_news(event), soft_wrap=True),
            )
            with trio.move_on_after(args.timeout) as deadline:
                await conversation.speak(payloads, args.realtime)
                progress.update(task, description="waiting")
                await conversation.listen()
    answers = conversation.answers
    speech = await trio.to_thread.run_sync(_speech, answers.in_order)
    if args.out is not None and speech:
        await trio.to_thread.run_sync(_write, args.out, speech)
    return {
        "file": str(args.file),
        "seconds": round(seconds, 3),
        "src": args.src,
        "tgt": args.tgt,
        "server": args.server,
        "session_id": session.session_id,
        "trace_id": session.trace_id,
        "text_asr": " ".join(text for result in answers.in_order if (text := result.text_asr.strip())),
        "text_translated": " ".join(
            text for result in answers.in_order if (text := result.text_translated.strip())
        ),
        "out": str(args.out) if args.out is not None and speech else None,
        "speech_seconds": round(len(speech) / 2 / audio.WIRE_RATE, 3),
        "elapsed_ms": round((time.monotonic() - started) * 1000),
        "reconnects": conversation.reconnects,
        "utterances": [_utterance(index, result) for index, result in sorted(answers.results.items())],
        "missing": [{"index": index, "reason": reason} for index, reason in sorted(answers.missing.items())],
        "error": _problem(args, answers, timed_out=deadline.cancelled_caught, spoken=bool(speech)),
    }


def _progress() -> Progress:
    console = Console(stderr=True)
    seconds = TextColumn("{task.completed:.1f} of {task.total:.1f} s")
    columns = (TextColumn("{task.description}"), BarColumn(), seconds, TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _speech(results: list[TranslationResult]) -> bytes:
    """PCM16 at 16 kHz of all results. Raises TranslateError if one cannot be decoded."""
    try:
        return b"".join(
            audio.to_pcm16(b64decode(result.tts_audio, validate=True), result.tts_format, audio.WIRE_RATE)
            for result in results
            if result.tts_audio
        )
    except (AudioError, ValueError) as error:
        raise TranslateError(f"the speech that came back cannot be decoded: {error}") from error


def _write(path: Path, speech: bytes) -> None:
    try:
        audio.write_wav(path, speech, audio.WIRE_RATE)
    except OSError as error:
        raise TranslateError(f"{path} cannot be written: {error.strerror}") from error


def _news(event: client.Reconnected) -> str:
    """What is said when a lost connection is back."""
    what = "goes on where it was" if event.recovered else "sends again what had no answer"
    lost = f", but {event.lost} parts of the speech are lost" if event.lost else ""
    return f"linguad translate: reconnected; {what}{lost}"


def _utterance(index: int, result: TranslationResult) -> dict[str, Any]:
    """What `--json` tells of one utterance: all but the sound."""
    return {
        "index": index,
        "text_asr": result.text_asr,
        "text_translated": result.text_translated,
        "tts_format": result.tts_format,
        "late": result.late,
        "job_id": result.job_id,
        "time_breakdown": msgspec.to_builtins(result.time_breakdown),
        "service_timings": msgspec.to_builtins(result.service_timings),
        "network_timings": msgspec.to_builtins(result.network_timings),
    }


def _problem(args: argparse.Namespace, answers: Answers, *, timed_out: bool, spoken: bool) -> str | None:
    """Why this is not a full success, and what to do next; None if it is."""
    node_url = _node_url(args.server)
    if timed_out:
        waited = f"no answer within {args.timeout:g} s"
        if answers.open:
            return f"{waited} for utterance {answers.open[0]}; allow more with --timeout"
        return f"{waited}; is a node connected? Start one with: linguad node --server {node_url}"
    lost = {index: reason for index, reason in answers.missing.items() if reason not in NO_LOSS}
    if lost:
        index, reason = min(lost.items())
        cause = _CAUSES.get(reason, "the server gave it up ({reason})")
        where = f"utterance {index}: " if len(answers.known) > 1 else ""
        return where + cause.format(src=args.src, tgt=args.tgt, node_url=node_url, reason=reason)
    if not any(result.text_asr.strip() for result in answers.results.values()):
        return f"no speech was heard in {args.file.name}"
    if args.out is not None and not spoken:
        return f"the node sent text but no speech, so {args.out} was not written"
    return None


def _show(report: dict[str, Any]) -> None:
    """The report for a person: texts, where the speech is, what `linguad trace` wants, a table of times."""
    console = Console(highlight=False)
    lines = {report["src"]: report["text_asr"], report["tgt"]: report["text_translated"]}
    if not report["utterances"]:
        lines = {}
    if report["out"] is not None:
        lines["speech"] = f"{report['out']} ({report['speech_seconds']:.1f} s)"
    lines["session"] = report["session_id"]
    width = max(map(len, lines))
    for name, line in lines.items():
        console.print(Text.assemble((name.ljust(width), "bold"), "  ", line), soft_wrap=True)
    units = f"ms; asr, nmt and tts are inside node; {report['elapsed_ms'] / 1000:.1f} s from start to end"
    table = Table(box=box.SIMPLE_HEAD, caption=units, caption_justify="left")
    for name in ("#", *_STEPS, "tries", *_STAGES):
        table.add_column(name, justify="right", no_wrap=True)
    for utterance in report["utterances"]:
        steps, stages = utterance["time_breakdown"] or {}, utterance["service_timings"] or {}
        table.add_row(
            str(utterance["index"]),
            *(_ms(steps.get(f"{name}_ms")) for name in _STEPS),
            str(steps.get("attempts", "")),
            *(_ms(stages.get(f"{name}_ms")) for name in _STAGES),
        )
    if report["utterances"]:
        console.print(table)


def _ms(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _node_url(server: str) -> str:
    return server.removesuffix("/ws/session") + "/ws/node"


def language(text: str) -> str:
    """A language code on the command line."""
    if not _LANGUAGE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a language code like en or es")
    return text


def add_session_argument(parser: argparse.ArgumentParser) -> None:
    """Where sessions are opened."""
    here = f"ws://{on_this_machine('server')}/ws/session"
    parser.add_argument("--server", metavar="URL", type=_server, default=here, help="default: %(default)s")


def _server(text: str) -> str:
    try:
        dial.parse(text)
    except dial.AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _output(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a file name in a directory that exists")
    return path


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds
