"""Who may import whom, and how long a file may grow.

The sources are read, not imported: a breach is found even where the module cannot be loaded here.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "linguad"

MAX_LINES = 500
"""A file of more lines is two (about 400 is the aim)."""

FIRST_ROW = frozenset(
    {"errors", "config", "files", "log", "metrics", "metrics_page", "durations", "counters", "wire", "ids"}
    | {"pools", "_hash", "_hash_py", "_classes_py", "_limits", "_pool_ids"}
    | {"_table", "_classes", "_choice", "_copy", "_fnv"}
    | {"octets", "_bytes", "_bytes_py"}
)
EDGES = frozenset({"net", "web", "audio"})
TRIO_SIDE = frozenset({"trio", "trio_websocket", "msgspec", "structlog", "prometheus_client"})
HTTP_SIDE = TRIO_SIDE | {"hypercorn", "quart", "quart_trio", "werkzeug"}


class Rule(NamedTuple):
    """One row of the table."""

    parts: frozenset[str]
    """Parts of linguad that may be imported, beside the own one."""
    packages: frozenset[str]
    """Installed packages that may be imported."""
    banned: frozenset[str] = frozenset({"asyncio"})
    """Standard modules that may not be imported; all others may."""


FIRST_ROW_RULE = Rule(FIRST_ROW, frozenset({"msgspec", "structlog", "prometheus_client"}))
CORE_RULE = Rule(
    frozenset({"errors", "wire", "octets", "pools", "_hash", "_hash_py", "_pool_ids"}),
    frozenset({"msgspec"}),
    # Time, chance and the outside world are handed in, so that any history can be replayed.
    banned=frozenset(
        {"asyncio", "time", "datetime", "random", "secrets", "uuid", "logging", "os", "socket", "threading"}
        | {"select", "subprocess", "multiprocessing", "concurrent", "signal", "tempfile"}
    ),
)
PART_RULE = Rule(FIRST_ROW | EDGES | {"core"}, HTTP_SIDE)
APART_RULE = Rule(
    FIRST_ROW | {"net", "audio"},
    TRIO_SIDE
    | {"numpy", "soundfile", "av", "pocketsphinx", "rich", "cryptography"}
    | {"faster_whisper", "ctranslate2", "sentencepiece", "piper"},
)

RULES: dict[str, Rule] = {
    **dict.fromkeys(FIRST_ROW, FIRST_ROW_RULE),
    "core": CORE_RULE,
    "net": Rule(FIRST_ROW, TRIO_SIDE | {"hypercorn", "wsproto", "h11", "redis", "hiredis"}),
    "web": Rule(FIRST_ROW | {"net"}, HTTP_SIDE | {"quart_schema"}),
    "audio": Rule(FIRST_ROW | {"net"}, frozenset({"trio", "msgspec", "av", "numpy", "soundfile"})),
    **dict.fromkeys(("sessions", "nodes", "dispatch", "ops", "pages", "cluster"), PART_RULE),
    "gateway": Rule(PART_RULE.parts, PART_RULE.packages | {"multipart", "quart_schema"}),
    "hub": Rule(PART_RULE.parts, PART_RULE.packages | {"cryptography"}),
    "store": Rule(PART_RULE.parts, HTTP_SIDE | {"sqlalchemy", "alembic"}),
    **dict.fromkeys(("worker", "client", "models"), APART_RULE),
    "tracing": Rule(FIRST_ROW | {"core"}, TRIO_SIDE | {"opentelemetry"}),
    "planning": Rule(FIRST_ROW, frozenset({"msgspec", "matplotlib"})),
}
TOP = frozenset({"daemon", "cli", "commands", "__main__"})
"""These may import anything, and only one another may import them."""
TOP_RULE = Rule(frozenset(RULES) | TOP, HTTP_SIDE | APART_RULE.packages | {"sqlalchemy"})
MADE_AT_RUN_TIME = "a module whose name is made at run time"


def breaches(package: Path) -> list[str]:
    """Every forbidden import and overlong file below `package`, as `file:line: what is wrong`."""
    return sorted(found for path in _sources(package) for found in _breaches_of(path, package))


def _sources(package: Path) -> Iterator[Path]:
    for pattern in ("*.py", "*.pyx", "*.pxd"):
        yield from package.rglob(pattern)


def _breaches_of(path: Path, package: Path) -> Iterator[str]:
    where = path.relative_to(package)
    text = path.read_text()
    if (count := len(text.splitlines())) > MAX_LINES:
        yield f"{where}: {count} lines, more than {MAX_LINES}"
    part = where.parts[0].partition(".")[0]
    if part == "__init__":
        rule = Rule(frozenset(), frozenset())
    elif part in TOP:
        rule = TOP_RULE
    elif part in RULES:
        rule = RULES[part]
    else:
        yield f"{where}: {part} is in no row of the table; see tests/test_layers.py"
        return
    for line, module in _imports(path, text, package):
        if not _is_allowed(module, part, rule):
            shown = module.removeprefix(f"{package.name}.").partition(".")[0]
            yield f"{where}:{line}: {part} may not import {shown}"


def _is_allowed(module: str, part: str, rule: Rule) -> bool:
    root, _, below = module.partition(".")
    if root == PACKAGE.name:
        target = below.partition(".")[0]
        return target in {"", "__version__", part} | rule.parts
    return root in rule.packages or root in sys.stdlib_module_names - rule.banned


def _imports(path: Path, text: str, package: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of all that a source imports, also inside functions and for types only."""
    if path.suffix != ".py":
        for number, line in enumerate(text.splitlines(), 1):
            if found := re.match(r"\s*(?:from\s+([\w.]+)\s+c?import|c?import\s+([\w.]+))", line):
                module = found[1] or found[2]
                # Declarations of C and of CPython itself, which Cython brings along.
                if module.partition(".")[0] not in ("cython", "libc", "cpython", "libcpp"):
                    yield number, module
        return
    home = [package.name, *path.relative_to(package).parent.parts]
    for node in ast.walk(ast.parse(text, path)):
        match node:
            case ast.Import(names=names):
                for name in names:
                    yield node.lineno, name.name
            case ast.ImportFrom(module=module, names=names, level=level):
                base = (
                    ".".join([*home[: len(home) + 1 - level], *filter(None, [module])]) if level else module
                )
                for name in names:
                    yield node.lineno, f"{base}.{name.name}"
            case ast.Call(func=ast.Name(id="__import__") | ast.Attribute(attr="import_module"), args=args):
                yield node.lineno, _literal_head(args[0])


def _literal_head(node: ast.expr) -> str:
    """What is sure about a module's name."""
    match node:
        case ast.Constant(value=str(name)) | ast.JoinedStr(values=[ast.Constant(value=str(name)), *_]):
            return name
    return MADE_AT_RUN_TIME


def test_no_layer_is_breached() -> None:
    assert breaches(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "source", "found"),
    [
        ("core/job.py", "import trio", "core may not import trio"),
        ("core/job.py", "import time", "core may not import time"),
        ("core/job.py", "from random import choice", "core may not import random"),
        ("core/job.py", "import logging.handlers", "core may not import logging"),
        ("core/job.py", "import structlog", "core may not import structlog"),
        ("core/job.py", "from linguad import log", "core may not import log"),
        ("core/job.py", "import linguad.metrics as m", "core may not import metrics"),
        ("core/job.py", "def f():\n    from linguad.net import outbox", "core may not import net"),
        ("core/job.py", "if TYPE_CHECKING:\n    from ..net import outbox", "core may not import net"),
        ("core/job.py", "from .. import config", "core may not import config"),
        (
            "core/job.py",
            "import importlib\nimportlib.import_module('linguad.net')",
            "core may not import net",
        ),
        ("core/job.py", "__import__(name)", f"core may not import {MADE_AT_RUN_TIME}"),
        ("wire/node.py", "import trio", "wire may not import trio"),
        ("log.py", "from linguad.net import outbox", "log may not import net"),
        ("_hash.pyx", "from linguad.core cimport job", "_hash may not import core"),
        ("_hash.pyx", "    cimport numpy", "_hash may not import numpy"),
        ("net/front.py", "from linguad.core import job", "net may not import core"),
        ("net/front.py", "import asyncio", "net may not import asyncio"),
        ("net/front.py", "import quart", "net may not import quart"),
        ("sessions/serve.py", "from linguad.nodes import serve", "sessions may not import nodes"),
        ("dispatch/engine.py", "from linguad import sessions", "dispatch may not import sessions"),
        ("ops/app.py", "from linguad.daemon import run", "ops may not import daemon"),
        ("worker/agent.py", "from linguad.core import job", "worker may not import core"),
        ("worker/agent.py", "from linguad import client", "worker may not import client"),
        ("client.py", "from linguad.sessions import serve", "client may not import sessions"),
        ("planning/model.py", "from linguad.core import fleet", "planning may not import core"),
        ("planning/model.py", "import rich", "planning may not import rich"),
        ("client.py", "import linguad.cli", "client may not import cli"),
        ("__init__.py", "from linguad import log", "__init__ may not import log"),
        ("novel.py", "", "novel is in no row of the table"),
        ("core/long.py", "a = 1\n" * (MAX_LINES + 1), "501 lines, more than 500"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, file: str, source: str, found: str) -> None:
    path = tmp_path / "linguad" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    (breach,) = breaches(tmp_path / "linguad")
    assert breach.startswith(file)
    assert found in breach


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("core/job.py", "import heapq\nimport msgspec\nfrom linguad.core import node\nfrom . import node"),
        (
            "core/job.py",
            "from linguad import errors, pools\nfrom linguad.wire import node\nfrom linguad import _hash",
        ),
        ("net/front.py", "import time\nimport trio\nfrom linguad import log\nfrom linguad.wire import codec"),
        (
            "nodes/serve.py",
            "from linguad.core import node\nfrom linguad.net import outbox\nfrom linguad import audio",
        ),
        (
            "worker/agent.py",
            "from linguad.net import outbox\nimport_module(f'linguad.worker.engines.{name}')",
        ),
        ("worker/a.py", "import importlib\nimportlib.import_module(f'linguad.worker.engines.{name}')"),
        ("daemon.py", "from linguad import core, sessions, worker, __version__\nimport trio, hypercorn"),
        ("cli.py", "from linguad import daemon"),
        ("_hash.pyx", "cimport cython\nfrom libc.stdint cimport uint64_t\nfrom linguad import _hash_py"),
        ("core/long.py", "a = 1\n" * MAX_LINES),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, file: str, source: str) -> None:
    path = tmp_path / "linguad" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    assert breaches(tmp_path / "linguad") == []


def test_every_row_is_looked_at() -> None:
    assert {path.parts[len(PACKAGE.parts)] for path in _sources(PACKAGE)} >= {"core", "net", "wire", "log.py"}
