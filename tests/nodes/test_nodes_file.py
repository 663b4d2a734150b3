"""`nodes.json`: what is known of nodes survives the process, and no file keeps the daemon from starting."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from core.support import Desk
from patience import PATIENCE_S
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad.core.clock import Clock
from linguad.core.key import Key
from linguad.core.memory import NOTHING, Remembered
from linguad.core.services import CORE_SERVICES
from linguad.nodes import memory
from linguad.nodes.memory import NodeMemory
from linguad.wire.override import Override

OFFSET_S = 1_700_000_000.0
PAIR = Key("en", "es", CORE_SERVICES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "nodes.json"


def process(path: Path, offset_s: float = OFFSET_S) -> tuple[Desk, NodeMemory]:
    """A fleet and its memory, as they are in one run of the daemon."""
    desk = Desk()
    desk.now = trio.current_time()
    return desk, NodeMemory(desk.fleet, Clock(offset_s), path)


async def loaded(path: Path, offset_s: float = OFFSET_S) -> Desk:
    """The fleet of a daemon that just started."""
    desk, kept = process(path, offset_s)
    await kept.load()
    return desk


def version(path: Path) -> int:
    """Differs whenever the file was written anew; 0 while there is none."""
    return path.stat().st_ino if path.exists() else 0


def put(path: Path, text: str) -> None:
    """A file of somebody."""
    path.parent.mkdir()
    path.write_text(text, encoding="latin-1")


def content(path: Path) -> str:
    """The bytes of a file as `put` takes them."""
    return path.read_text(encoding="latin-1")


def mode(path: Path) -> int:
    """Who may read and write."""
    return path.stat().st_mode & 0o777


def names(path: Path) -> list[str]:
    """What is in a directory."""
    return sorted(one.name for one in path.iterdir())


def nodes(path: Path) -> dict[str, Any]:
    """The nodes in the file."""
    kept: dict[str, Any] = json.loads(path.read_text())["nodes"]
    return kept


async def written(path: Path, before: int = 0) -> None:
    """Wait for the file in real time; the clock of the daemon stands still."""
    end = time.monotonic() + PATIENCE_S
    while version(path) == before:
        assert time.monotonic() < end, "nothing was written"
        await trio.to_thread.run_sync(time.sleep, 0.005)


async def test_everything_comes_back(path: Path, autojump_clock: MockClock) -> None:
    desk, kept = process(path)
    for node_id in ("a", "b", "idle"):
        desk.node(node_id)
    desk.dispatch.override("a", Override(cap=3, drain=False, weight=2.0, note="naïve – ✓"), desk.now)
    health = desk.fleet.nodes["b"].health
    health.on_probation, health.failed_probations, health.quarantined_until = True, 3, desk.now + 120
    desk.fleet.speeds.recall("b", [(PAIR, 2.5), (Key("*", "es", CORE_SERVICES, True), 0.5)])
    await kept.save()
    assert (mode(path), mode(path.parent), names(path.parent)) == (0o600, 0o700, ["nodes.json"])
    assert set(nodes(path)) == {"a", "b"}
    # the next process has another monotonic clock
    again = await loaded(path, OFFSET_S - 50)
    remembered = again.fleet.remembered("b")
    assert again.fleet.remembered("a") == desk.fleet.remembered("a")
    assert remembered.quarantined_until == pytest.approx(desk.now + 120 + 50)
    assert (remembered.on_probation, remembered.failed_probations) == (True, 3)
    assert remembered.speeds == ((PAIR, 2.5), (Key("*", "es", CORE_SERVICES, True), 0.5))


async def test_what_was_read_is_written_again(path: Path, autojump_clock: MockClock) -> None:
    desk, kept = process(path)
    desk.node("a")
    desk.dispatch.override("a", Override(drain=True), desk.now)
    await kept.save()
    second, kept = process(path)
    await kept.load()
    second.node("b")
    second.dispatch.override("b", Override(cap=1), second.now)
    await kept.save()
    third = await loaded(path)
    assert list(third.fleet.memory) == ["a", "b"]


async def test_quarantine_that_is_over_is_not_kept(path: Path, autojump_clock: MockClock) -> None:
    desk, kept = process(path)
    desk.node("a")
    health = desk.fleet.nodes["a"].health
    health.failed_probations, health.quarantined_until = 1, trio.current_time() + 20
    await kept.save()
    await trio.sleep(21)
    assert (await loaded(path)).fleet.remembered("a") == Remembered(failed_probations=1)
    await kept.save()
    assert "quarantined_until" not in nodes(path)["a"]


async def test_clock_set_back_keeps_no_node_away_for_ever(path: Path, autojump_clock: MockClock) -> None:
    desk, kept = process(path)
    desk.node("a")
    desk.fleet.nodes["a"].health.quarantined_until = trio.current_time() + 60
    await kept.save()
    again = await loaded(path, OFFSET_S - 1e8)
    left_s = again.fleet.remembered("a").quarantined_until - trio.current_time()
    assert left_s == again.fleet.rules.quarantine_max_s


async def test_unbelievable_speed_is_kept_within_bounds(path: Path, autojump_clock: MockClock) -> None:
    desk, kept = process(path)
    desk.node("a")
    desk.fleet.speeds.recall("a", [(PAIR, float("inf")), (Key("es", "en", CORE_SERVICES), 2.0)])
    await kept.save()
    again = await loaded(path)
    assert dict(again.fleet.remembered("a").speeds) == {PAIR: 1000.0, Key("es", "en", CORE_SERVICES): 2.0}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"nodes":{}}',
        '{"version":2,"nodes":{}}',
        '{"version":1,"nodes":{"a":{"colour":"red"}}}',
        '{"version":1,"nodes":{"a":{"override":{"cap":1000}}}}',
        '{"version":1,"nodes":{"a":{"speeds":[["en","es",7,false,0]]}}}',
        '{"version":1,"nodes":{"a":{"speeds":[["en","es",99,false,1.0]]}}}',
        "[" * 100_000,
        "\xff\xfe",
    ],
)
async def test_broken_file_is_put_aside(text: str, path: Path, autojump_clock: MockClock) -> None:
    put(path, text)
    desk, kept = process(path)
    await kept.load()
    aside = path.with_name("nodes.json.broken")
    assert names(path.parent) == [aside.name]
    assert content(aside) == text
    assert desk.fleet.remembered("a") == NOTHING
    desk.node("a")
    desk.dispatch.override("a", Override(cap=2), desk.now)
    await kept.save()
    assert (await loaded(path)).fleet.remembered("a").said == Override(cap=2)


async def test_file_that_cannot_be_read_or_written_stops_nothing(
    path: Path, autojump_clock: MockClock
) -> None:
    os.makedirs(path)
    desk, kept = process(path)
    await kept.load()
    assert names(path.parent) == ["nodes.json.broken"]
    os.mkdir(path)
    desk.node("a")
    desk.dispatch.override("a", Override(cap=2), desk.now)
    await kept.save()
    os.rmdir(path)
    await kept.save()
    assert (await loaded(path)).fleet.remembered("a").said == Override(cap=2)


async def test_no_file_for_nothing(path: Path, autojump_clock: MockClock) -> None:
    desk, kept = process(path)
    await kept.load()
    desk.node("a")
    await kept.save()
    assert version(path) == 0


async def test_word_of_an_operator_is_written_within_a_second(path: Path, mock_clock: MockClock) -> None:
    desk, kept = process(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.run)
        desk.node("a")
        desk.dispatch.override("a", Override(cap=2), desk.now)
        kept.soon()
        await wait_all_tasks_blocked()
        mock_clock.jump(1.0)
        await written(path)
        assert (await loaded(path)).fleet.remembered("a").said == Override(cap=2)
        nursery.cancel_scope.cancel()


async def test_what_was_learned_is_written_every_half_minute_and_only_then(
    path: Path, mock_clock: MockClock
) -> None:
    desk, kept = process(path)
    desk.node("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.run)
        desk.fleet.speeds.recall("a", [(PAIR, 2.0)])
        await wait_all_tasks_blocked()
        mock_clock.jump(memory.SAVE_SECONDS - 1)
        await wait_all_tasks_blocked()
        assert version(path) == 0
        mock_clock.jump(1)
        await written(path)
        first = version(path)
        await kept.save()
        assert version(path) == first
        desk.fleet.speeds.recall("a", [(PAIR, 3.0)])
        await wait_all_tasks_blocked()
        mock_clock.jump(memory.SAVE_SECONDS)
        await written(path, first)
        assert (await loaded(path)).fleet.remembered("a").speeds == ((PAIR, 3.0),)
        nursery.cancel_scope.cancel()


async def test_the_longest_unseen_are_dropped(
    path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(memory, "MAX_REMEMBERED", 3)
    desk, kept = process(path)
    for node_id in ("here", "gone", "long-gone", "first-gone"):
        desk.node(node_id)
        desk.dispatch.override(node_id, Override(cap=2), desk.now)
    for node_id in ("first-gone", "long-gone", "gone"):
        desk.lose(node_id)
    await kept.save()
    assert list(nodes(path)) == ["long-gone", "gone", "here"]


async def test_two_saves_at_once_leave_one_whole_file(path: Path, autojump_clock: MockClock) -> None:
    desk, kept = process(path)
    desk.node("a")
    async with trio.open_nursery() as nursery:
        for cap in range(1, 9):
            desk.dispatch.override("a", Override(cap=cap), desk.now)
            nursery.start_soon(kept.save)
            await trio.lowlevel.checkpoint()
    assert (await loaded(path)).fleet.remembered("a").said == Override(cap=8)
