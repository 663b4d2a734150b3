"""The pages keep what docs/README.md promises: short, in step with the code, links that lead somewhere.

Rules: a page is any Markdown file that is ours; generated pages say so and may be long. Commands are parsed
with the real parser; tests/e2e/test_documentation.py runs them.
"""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from urllib.parse import unquote

import pytest
from documents import CHINESE, NOT_RUN, PAGES, ROOT, Block, blocks, named, prose, text_of, uncommented
from prometheus_client import REGISTRY

from linguad import metrics as _metrics  # noqa: F401 - fills the registry
from linguad.cli import COMMANDS, parser_of
from linguad.config.reading import PREFIX, SETTINGS
from linguad.daemon import routes

MAX_LINES = 500
GENERATED = re.compile(r"Printed .*by `python -m|<!-- end: ")
"""What pages say that are printed, as a whole or in large part."""

INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")

NO_SETTINGS = ("md", "json", "toml", "py", "db", "service", "socket", "broken")
"""What follows a dot in names of files."""


def everything() -> str:
    return "\n".join(text_of(path) for path in PAGES)


def anchors(path: Path) -> set[str]:
    """The anchors of the headings of a page, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_pages_are_short(path: Path) -> None:
    text = text_of(path)
    assert GENERATED.search(text) or len(text.splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    dead = []
    for target in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = unquote(target).partition("#")
        there = (path.parent / place).resolve() if place else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            dead.append(target)
    assert dead == []


def test_every_page_is_reached_from_the_centre() -> None:
    centre = ROOT / "docs/README.md"
    reached, todo = set(), [centre]
    while todo:
        path = todo.pop()
        if path in reached or path.suffix != ".md":
            continue
        reached.add(path)
        for target in LINK.findall(prose(path)):
            there = (path.parent / target.partition("#")[0]).resolve()
            if there.is_file():
                todo.append(there)
    assert [named(path) for path in PAGES if path not in reached] == []


def test_the_centre_links_every_page() -> None:
    docs = ROOT / "docs"
    linked = {
        (docs / target.partition("#")[0]).resolve() for target in LINK.findall(prose(docs / "README.md"))
    }
    assert [named(path) for path in PAGES if docs in path.parents and path not in linked] == [
        "docs/README.md"
    ]


TWINS = [
    ("README.md", "README.zh.md"),
    ("docs/write-a-node.md", "docs/zh/node-protocol.md"),
]
"""Pages and their Chinese translations, whose examples are the same but for comments."""


def examples(path: Path) -> list[str]:
    """The blocks of code of a page that are run or typed, without comments."""
    return [uncommented(block.text) for block in blocks(path) if block.language in ("sh", "python")]


@pytest.mark.parametrize(("english", "chinese"), TWINS)
def test_translations_have_the_same_examples(english: str, chinese: str) -> None:
    found = examples(ROOT / english)
    assert found, "no example is recognised any more"
    assert examples(ROOT / chinese) == found


@pytest.mark.parametrize("path", CHINESE, ids=named)
def test_what_chinese_pages_say_to_type_is_on_english_ones(path: Path) -> None:
    """Those are run, so these need not be."""
    english = {line for page in PAGES if page not in CHINESE for line in commands(page)}
    assert [line for line in commands(path) if line not in english] == []


def commands(path: Path) -> list[str]:
    """Commands of a page without the directory of `linguad`, which depends on how it is installed."""
    lines = [line for block in blocks(path) if block.language == "sh" for line in block.commands]
    return [line.replace(".venv/bin/", "") for line in lines]


LANGUAGES = {"html", "js", "json", "mermaid", "powershell", "text", "toml", "yaml"}
"""Of blocks that are not run."""


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_blocks_say_what_they_are(path: Path) -> None:
    for block in blocks(path):
        match block.language:
            case "sh":
                assert block.word in ("", "terminals", *NOT_RUN), block
            case "python":
                assert block.word == "" or block.word.endswith(".py"), block
            case language:
                assert language in LANGUAGES, block
                assert block.word == "" or block.word.endswith(f".{language}"), block
        assert block.language != "text" or not re.search(r"^linguad ", block.text, re.MULTILINE), block


def test_contributing_lists_what_no_test_runs() -> None:
    told = re.findall(r"^\| `(\w+)` \| .+ \| (.+) \|$", text_of(ROOT / "CONTRIBUTING.md"), re.MULTILINE)
    found = {
        word: [named(path) for path in PAGES if path not in CHINESE and _has(path, word)] for word in NOT_RUN
    }
    assert {word: re.findall(r"\[([^\]]+)\]", pages) for word, pages in told if word in NOT_RUN} == found


def _has(path: Path, word: str) -> bool:
    return any(block.language == "sh" and block.word == word for block in blocks(path))


NOT_RUN_BLOCKS = [
    pytest.param(block, id=f"{named(path)}-{number}")
    for path in PAGES
    for number, block in enumerate(blocks(path))
    if block.language == "sh" and not block.runs
]


@pytest.mark.parametrize("block", NOT_RUN_BLOCKS)
def test_what_no_test_runs_could_be_run(block: Block) -> None:
    """Its shell is right, and the files, modules and targets that it names are there."""
    checked = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in block.commands:
        assert set(re.findall(r"^make (\w+)", line)) <= targets, line
        for module in re.findall(r"python -m (bench\S*|tests\S*)", line):
            assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), module
        for name in re.findall(r"/opt/linguad/(etc/\S+)", line):
            assert list(ROOT.glob(name)), name
        for name in re.findall(r"(?<![\w/])tests/\S+\.py", line):
            assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_pages_say_what_a_reader_has_to_fill_in(path: Path) -> None:
    """Words in capitals, in blocks that no test runs; elsewhere nothing can be left open."""
    words = {
        word
        for block in blocks(path)
        if block.language == "sh" and not block.runs
        for line in block.commands
        for word in re.findall(r"(?<![\w$.-])[A-Z]{2,}(?![\w=])", line)
    }
    assert words - set(INLINE.findall(prose(path))) == set()


def test_the_table_of_the_architecture_has_every_folder() -> None:
    rows = re.findall(r"^\| (`linguad/[^|]+) \|", text_of(ROOT / "docs/architecture.md"), re.MULTILINE)
    told = [name.removeprefix("linguad/") for row in rows for name in INLINE.findall(row)]
    folders = [path.parent.name for path in (ROOT / "linguad").glob("*/__init__.py")]
    assert sorted(told) == sorted(folders)


def test_files_that_the_architecture_names_exist() -> None:
    found = re.findall(r"(?<![\w/.])([a-z]+/[a-z_]+\.pyx?)\b", text_of(ROOT / "docs/architecture.md"))
    assert found, "no file is recognised any more"
    missing = {
        name for name in found if not (ROOT / "linguad" / name).is_file() and not (ROOT / name).is_file()
    }
    assert missing == set()


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_settings_that_are_named_exist(path: Path) -> None:
    wrong = []
    for code in INLINE.findall(prose(path)):
        for table, name in re.findall(r"(?<![\w./-])([a-z]+)\.([a-z_]+)\b(?![./(])", code):
            # a name that ends with an underscore stands for all that begin so
            family = name.endswith("_") and any(one.startswith(name) for one in SETTINGS.get(table, ()))
            if table in SETTINGS and name not in SETTINGS[table] and name not in NO_SETTINGS and not family:
                wrong.append(f"{table}.{name}")
    assert path.name == "old-settings.md" or wrong == []


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_variables_that_are_named_exist(path: Path) -> None:
    for variable in re.findall(rf"\b{PREFIX}[A-Z]+__[A-Z_]+", text_of(path)):
        table, _, name = variable.removeprefix(PREFIX).lower().partition("__")
        assert name in SETTINGS.get(table, {}), variable


def test_every_setting_is_on_the_page_of_settings() -> None:
    page = text_of(ROOT / "docs/settings.md")
    for table, settings in SETTINGS.items():
        _, _, part = page.partition(f"## [{table}]")
        for name in settings:
            assert f"| `{name}` |" in part, f"{table}.{name}"


def metric_names() -> set[str]:
    return {metric.name for metric in REGISTRY.collect()}


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_metrics_that_are_named_exist(path: Path) -> None:
    # one name that looks like a metric is a cookie
    known = metric_names() | {"linguad_viewer"}
    for code in INLINE.findall(prose(path)):
        for name in re.findall(r"\b(?:linguad_[a-z0-9_]*[a-z0-9]|scheduler_\w+_total)\b", code):
            plain = re.sub(r"_(total|bucket|sum|count|created)$", "", name)
            assert {name, plain} & known, name


def routes_of(folder: str) -> Iterator[str]:
    """Paths of the routes that the sources of a folder add to their app."""
    for path in (ROOT / "linguad" / folder).glob("*.py"):
        for node in ast.walk(ast.parse(text_of(path))):
            match node:
                case ast.Call(
                    func=ast.Attribute(
                        value=ast.Name(id="app"),
                        attr="get" | "post" | "put" | "patch" | "delete" | "route" | "websocket",
                    ),
                    args=[ast.Constant(value=str(route)), *_],
                ):
                    yield route


@pytest.mark.parametrize("folder", ["ops", "hub"])
def test_every_route_is_on_a_page(folder: str) -> None:
    text = everything()
    found = sorted(set(routes_of(folder)) - {"/"})
    assert found, "no route is recognised any more"
    missing = [route for route in found if not _is_told(route, text)]
    assert missing == []


def _is_told(route: str, text: str) -> bool:
    """Whether a page names a path, whatever it calls what varies in it."""
    parts = re.split(r"<[^>]+>", route)
    pattern = r"[^/\s`|]+".join(re.escape(part) for part in parts)
    return re.search(rf"(?<![\w/]){pattern}(?![\w/-])", text) is not None


def test_the_page_of_routes_is_up_to_date() -> None:
    page = text_of(ROOT / "docs/routes.md")
    assert page == routes.page(), "run: python -m linguad.daemon.routes > docs/routes.md"


def commands_in(path: Path) -> Iterator[list[str]]:
    """The words of every call of linguad in blocks for a shell."""
    for line in (line for block in blocks(path) if block.language == "sh" for line in block.commands):
        if "linguad" in line:
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words: list[str] | None = None
            for word in [*lexer, ";"]:
                if words is not None and word[0] in "();<>|&":
                    if words and words[0] in COMMANDS:
                        yield words
                    words = None
                elif words is not None:
                    words.append(word)
                elif word == "linguad" or word.endswith("bin/linguad"):
                    words = []


CALLS = [
    pytest.param(words, id=f"{named(path)}: linguad {' '.join(words)}")
    for path in PAGES
    for words in commands_in(path)
]


@pytest.mark.parametrize("words", CALLS)
def test_commands_in_blocks_can_be_given(words: list[str]) -> None:
    parser_of(words).parse_args(words)


def subcommands(name: str) -> Iterator[str]:
    """`name` and what may follow it."""
    yield name
    (commands,) = parser_of([name])._subparsers._group_actions  # type: ignore[union-attr]
    for action in commands.choices[name]._actions:  # type: ignore[index]
        if isinstance(action, argparse._SubParsersAction):
            yield from (f"{name} {below}" for below in action.choices)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_on_a_page(name: str) -> None:
    text = everything()
    for words in subcommands(name):
        assert re.search(rf"linguad {words}\b", text), f"no page tells of linguad {words}"


def test_commands_in_the_text_exist() -> None:
    """Only names and options are looked at: such calls are often not whole."""
    wrong = []
    for path in PAGES:
        for code in INLINE.findall(prose(path)):
            if not re.fullmatch(r"linguad [a-z][\w .:/=,<>-]*", code):
                continue
            words = code.split()[1:]
            complaint = StringIO()
            with redirect_stderr(complaint):
                try:
                    parser_of(words).parse_args(words)
                except SystemExit:
                    said = complaint.getvalue()
                    if "invalid choice" in said or "unrecognized" in said:
                        wrong.append(f"{named(path)}: {code}: {said.splitlines()[-1]}")
    assert wrong == []
