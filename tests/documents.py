"""The pages of documentation, their blocks of code, and a page as a script that runs them.

What follows the language of a block says what it is for; CONTRIBUTING.md has these words, too.

- `sh`: typed into the terminal of the page.
- `sh terminals`: each command has a terminal of its own, until the next such block, or the end of the page.
- `sh machine`: changes or needs a real machine (packages, units, containers), so no test runs it.
- `sh minutes`: takes minutes, so no test runs it.
- `python`: a program that is run. `python NAME.py`, `toml NAME.toml`: a file that later blocks use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").glob("*.md")],
    key=lambda path: path.as_posix(),
)
CHINESE = [path for path in PAGES if path.parent.name == "zh" or path.suffixes == [".zh", ".md"]]
"""Translations; their examples are those of the English pages."""

FENCE = re.compile(r"^```(\w*) ?(.*)\n((?:.*\n)*?)```$", re.MULTILINE)

NOT_RUN = ("machine", "minutes")
"""Words of blocks for a shell that no test runs."""


class Block(NamedTuple):
    """A block of code of a page."""

    language: str
    word: str
    """What follows the language."""
    text: str

    @property
    def runs(self) -> bool:
        """Whether a test runs it."""
        return self.language in ("sh", "python") and self.word not in NOT_RUN

    @property
    def commands(self) -> list[str]:
        """The commands of a block for a shell, without comments, each in one line."""
        lines = uncommented(self.text).replace("\\\n", " ").splitlines()
        return [" ".join(line.split()) for line in lines if line.strip()]

    @property
    def script(self) -> str:
        """What bash does with it; as many lines as there are between its fences, and these two."""
        lines = self.text.splitlines()
        if self.language == "sh" and self.word == "terminals":
            begins = [True, *(not line.endswith("\\") for line in lines)]
            lines = [
                f"terminal {line}" if new and line else line for new, line in zip(begins, lines, strict=False)
            ]
            return "\n".join(["close_terminals", *lines, ""])
        if self.language == "sh" and self.runs:
            return "\n".join(["", *lines, ""])
        if self.language == "python" or self.word:
            into = f"cat > {self.word}" if self.word else "python -"
            return "\n".join([f"{into} <<'END OF BLOCK'", *lines, "END OF BLOCK"])
        return "\n" * (len(lines) + 1)


@cache
def text_of(path: Path) -> str:
    """A page."""
    return path.read_text()


def named(path: Path) -> str:
    """The name of a page, from the root of the sources."""
    return path.relative_to(ROOT).as_posix()


@cache
def prose(path: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", text_of(path))


@cache
def blocks(path: Path) -> list[Block]:
    """The blocks of code of a page."""
    return [Block(*found.groups()) for found in FENCE.finditer(text_of(path))]


def example(name: str, language: str) -> str:
    """The one block of this language on the page of this name."""
    (found,) = (block.text for block in blocks(ROOT / name) if block.language == language)
    return found


def uncommented(code: str) -> str:
    """Code for a shell or Python without its comments."""
    return re.sub(r"(?:^| +)# .*$", "", code, flags=re.MULTILINE)


def script(path: Path) -> str:
    """A page as a script for bash, line by line: a complaint of bash names the line of the page."""
    return "".join(_script(text_of(path)))


def _script(text: str) -> Iterator[str]:
    end = 0
    for found in FENCE.finditer(text):
        yield "\n" * text.count("\n", end, found.start())
        yield Block(*found.groups()).script
        end = found.end()
    yield "\n"
