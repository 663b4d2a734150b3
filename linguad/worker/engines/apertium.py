"""Translation by Apertium, for every pair its installation has.

The `apertium` command starts a dozen programs for each text, which takes 0.4 s. Here they are started once
per direction, in null-flush mode: each passes a text on when it sees a zero byte, and a sentence takes 2 ms.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import IO

from linguad.errors import EngineError
from linguad.wire.language import normalize
from linguad.worker import languages
from linguad.worker.engines.base import Engine, Kind, Pair, Text, Translate, Work

MAX_TEXT_BYTES = 30_000
"""Longest text: half of what a pipe holds, so that writing a text never waits for reading its translation."""

READ_BYTES = 1 << 16
"""As much as a pipe holds."""

_ENVIRONMENT = {"LC_ALL": "C.UTF-8"}
_MODE = re.compile(r"([a-z]{2,3})-([a-z]{2,3})")
_SPECIAL = re.compile(r"([\\^$/\[\]{}<>@])")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_END = ".[]"
"""What Apertium's own text filter puts behind a text, so that a sentence without full stop is seen to end."""


class Apertium(Engine):
    """About 2 ms for a sentence; each direction is started when it is first needed."""

    kind = Kind.NMT

    def __init__(self) -> None:
        self._lines: dict[Pair, _AssemblyLine] = {}

    def probe(self) -> str | None:
        if shutil.which("apertium") is None:
            return "apertium is not installed; apt-get install apertium apertium-eng-spa"
        if not self.pairs():
            return "apertium has no language pair installed; apt-get install apertium-eng-spa"
        return None

    def version(self) -> str:
        done = subprocess.run(["apertium", "-V"], capture_output=True, text=True, check=False)
        return done.stdout.strip().removeprefix("Apertium ")

    def pairs(self) -> list[Pair]:
        return sorted(_modes())

    def close(self) -> None:
        for line in self._lines.values():
            line.stop()
        self._lines.clear()

    def run(self, request: Work) -> Text:
        if not isinstance(request, Translate):
            raise EngineError("apertium was asked for something else than to translate")
        pair = (normalize(request.source), normalize(request.target))
        text = _SPECIAL.sub(r"\\\1", " ".join(request.text.replace("\0", " ").split())).encode()
        if len(text) > MAX_TEXT_BYTES:
            raise EngineError(f"a text of {len(text)} bytes is too long to be translated")
        if not text:
            return Text("")
        translated = self._line(pair).pass_through(text + _END.encode()).decode(errors="replace")
        return Text(_ESCAPED.sub(r"\1", translated.removesuffix(_END)).strip())

    def _line(self, pair: Pair) -> _AssemblyLine:
        line = self._lines.get(pair)
        if line is not None and line.is_whole():
            return line
        if line is not None:
            line.stop()
        mode = _modes().get(pair)
        if mode is None:
            raise EngineError(f"apertium has no pair {pair[0]} to {pair[1]}")
        line = self._lines[pair] = _AssemblyLine(mode)
        return line


class _AssemblyLine:
    """The running programs of one direction, each reading what the one before writes. Raises EngineError."""

    def __init__(self, mode: Path) -> None:
        self._programs: list[subprocess.Popen[bytes]] = []
        source: IO[bytes] | int = subprocess.PIPE
        for command in _commands(mode):
            try:
                program = subprocess.Popen(
                    command, stdin=source, stdout=subprocess.PIPE, bufsize=0, env=os.environ | _ENVIRONMENT
                )
            except OSError as error:
                self.stop()
                raise EngineError(f"apertium needs {command[0]}, which cannot be started") from error
            self._programs.append(program)
            if not isinstance(source, int):
                # Only its reader may hold a pipe, or the programs would not end one after the other.
                source.close()
            source = _pipe(program.stdout)
        self._into = _pipe(self._programs[0].stdin)
        self._out_of = _pipe(self._programs[-1].stdout)

    def is_whole(self) -> bool:
        return all(program.poll() is None for program in self._programs)

    def stop(self) -> None:
        for program in self._programs:
            with program:
                program.kill()

    def pass_through(self, text: bytes) -> bytes:
        out = b""
        try:
            self._into.write(text + b"\0")
            while not out.endswith(b"\0"):
                part = self._out_of.read(READ_BYTES)
                if not part:
                    raise EngineError("apertium ended in the middle of a text")
                out += part
        except OSError as error:
            raise EngineError(f"apertium cannot be reached: {error.strerror}") from error
        return out[:-1]


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _modes() -> dict[Pair, Path]:
    """The mode files of directions, such as `eng-spa.mode`; variants such as `spa-eng_US` are left out."""
    found = {}
    for file in (_data_dir() / "modes").glob("*.mode"):
        if name := _MODE.fullmatch(file.stem):
            found[languages.from_iso_639_3(name[1]), languages.from_iso_639_3(name[2])] = file
    return found


def _data_dir() -> Path:
    command = shutil.which("apertium") or "/usr/bin/apertium"
    beside = Path(command).resolve().parent.parent / "share" / "apertium"
    return Path(os.environ.get("APERTIUM_DATADIR", beside))


def _commands(mode: Path) -> list[list[str]]:
    """The programs of a mode file: a shell pipeline, `$1` says how words are printed, `$2` is for debugging.

    `-n` prints unknown words without marks, `-z` passes a text on at each zero byte.
    """
    commands = []
    for stage in mode.read_text(encoding="utf-8").split("|"):
        program, *arguments = shlex.split(stage)
        given = ["-n" if argument == "$1" else argument for argument in arguments if argument != "$2"]
        commands.append([program, "-z", *given])
    return commands
