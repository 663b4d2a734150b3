"""What the pages tell to type works when it is typed, in the order of the page, against real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import CHINESE, PAGES, blocks, named
from processes import Process, command
from reader import Reader

RUN = [path for path in PAGES if path not in CHINESE and any(block.runs for block in blocks(path))]


def starts_a_server(path: Path) -> bool:
    """Whether a page starts servers of its own; all others suppose that one runs."""
    return any(block.word == "terminals" and "linguad serve" in block.text for block in blocks(path))


@pytest.fixture(scope="module")
def at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader at whose place run a server and a node, which only echoes."""
    reader = Reader(tmp_path_factory.mktemp("reader"))
    node_url = reader.here("ws://127.0.0.1:5010/ws/node")
    running: list[Process] = []
    try:
        for words, ready in (
            (["serve"], "started"),
            (["node", "--server", node_url, "--engines", "echo"], "node_standing"),
        ):
            running.append(Process(command(*words), reader.environment, reader.home))
            running[-1].wait_for(ready)
        yield reader
        for process in reversed(running):
            process.signal(15)
            assert (process.wait(), process.complaints) == (0, [])
    finally:
        for process in running:
            process.clear_away()


@pytest.mark.parametrize("page", RUN, ids=named)
def test_what_a_page_says_works(page: Path, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    reader = Reader(tmp_path) if starts_a_server(page) else request.getfixturevalue("at_home")
    reader.follow(page)
