"""One file from a hub that does everything wrong: it is right in the end, or there is an error."""

from __future__ import annotations

import errno
import os
import random
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from patience import PATIENCE_S
from played_hub import FAST, Fault, PlayedHub, played_hub, sha256

from linguad.models.answer import Ladder
from linguad.models.catalog import WantedFile
from linguad.models.errors import (
    ChecksumError,
    FileMissingError,
    HubProtocolError,
    InsufficientSpaceError,
    ModelError,
    NetworkError,
    SizeMismatchError,
)
from linguad.models.fetch import LIMITS, Fetch
from linguad.models.part import read_journal
from linguad.models.progress import Gate
from linguad.net.http_client import Limits

DATA = random.Random(1).randbytes(300_000)
KINDS = [
    *("none", "whole", "cut", "reset", "refuse", "busy", "unsatisfiable", "wrong_range", "lying_range"),
    *("unranged_206", "long", "announced_long", "damaged", "short_close", "gzip", "missing"),
]


class Count:
    """Counts bytes as a meter does."""

    def __init__(self) -> None:
        self.had = self.came = self.thrown = 0

    def have(self, count: int) -> None:
        self.had += count

    def moved(self, count: int, path: str) -> None:
        self.came += count

    def lost(self, count: int, *, damaged: bool) -> None:
        self.thrown += count


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without pauses."""
    monkeypatch.setattr(Ladder, "DELAYS", (0.0, 0.0, 0.0))


async def fetch(
    hub: PlayedHub,
    part: Path,
    data: bytes = DATA,
    count: Count | None = None,
    limits: Limits = LIMITS,
) -> str:
    hub.models = {"m": {"1": {"a": data}}}
    wanted = WantedFile("a", len(data), sha256(data))
    url = f"{hub.url}/storage/models/m/1/a"
    return await Fetch(url, "1", wanted, part, count or Count(), Gate(), limits=limits).run()


faults = st.lists(st.builds(Fault, st.sampled_from(KINDS), st.integers(0, len(DATA))), max_size=7)


class TestProperty:
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(rounds=st.lists(faults, min_size=1, max_size=3), old=st.booleans())
    @example(rounds=[[Fault("cut", 1000), Fault("whole")]], old=True)
    @example(rounds=[[Fault("cut", 299_999), Fault("lying_range")]], old=False)
    def test_whatever_the_hub_does_the_file_is_right_or_there_is_an_error(
        self, rounds: list[list[Fault]], old: bool
    ) -> None:
        trio.run(self._play, rounds, old)

    async def _play(self, rounds: list[list[Fault]], old: bool) -> None:
        with TemporaryDirectory() as directory, trio.fail_after(PATIENCE_S):
            part = Path(directory) / "a.part"
            async with played_hub(old=old) as hub:
                for faults in rounds:
                    hub.faults.clear()
                    hub.faults.extend(faults)
                    try:
                        assert await fetch(hub, part) == sha256(DATA)
                    except ModelError:
                        continue
                    assert part.read_bytes() == DATA
                hub.faults.clear()
                # Whatever happened before, a hub that works again gives the file.
                assert await fetch(hub, part) == sha256(DATA)
                assert part.read_bytes() == DATA

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        cuts=st.lists(st.integers(0, 60_000), max_size=12),
        steps=st.lists(st.sampled_from(["cancel", "cut"]), min_size=12, max_size=12),
        size=st.sampled_from([0, 1, 65_536, 300_000]),
    )
    def test_any_sequence_of_cuts_and_restarts_gives_the_source(
        self, cuts: list[int], steps: list[str], size: int
    ) -> None:
        trio.run(self._cut, cuts, steps, DATA[:size])

    async def _cut(self, cuts: list[int], steps: list[str], data: bytes) -> None:
        with TemporaryDirectory() as directory, trio.fail_after(PATIENCE_S):
            part = Path(directory) / "a.part"
            count = Count()
            async with played_hub() as hub:
                for cut, step in zip(cuts, steps, strict=False):
                    hub.faults.clear()
                    if step == "cancel":
                        hub.faults.append(Fault("stall", cut))
                        with trio.move_on_after(0.02):
                            await fetch(hub, part, data, count)
                    else:
                        hub.faults.extend([Fault("cut", cut), *[Fault("refuse")] * 3])
                        try:
                            await fetch(hub, part, data, count)
                        except NetworkError:
                            continue
                hub.faults.clear()
                await fetch(hub, part, data, count)
            assert part.read_bytes() == data
            # Not one byte came twice, because nothing was thrown away.
            assert count.came == len(data)


async def test_a_stalled_hub_is_left_and_asked_for_the_rest(tmp_path: Path) -> None:
    async with played_hub() as hub:
        hub.faults.append(Fault("stall", 1000))
        await fetch(hub, tmp_path / "a.part", limits=FAST)
    first, second, *_ = hub.asked
    assert "range" not in first.headers
    assert (second.headers["range"], second.headers["if-range"]) == ("bytes=1000-", f'"{sha256(DATA)}"')
    assert (tmp_path / "a.part").read_bytes() == DATA


async def test_a_complete_part_is_not_asked_for(tmp_path: Path) -> None:
    async with played_hub() as hub:
        await fetch(hub, tmp_path / "a.part")
        await fetch(hub, tmp_path / "a.part")
        assert len(hub.asked) == 1
        await fetch(hub, tmp_path / "empty.part", b"")
        assert len(hub.asked) == 1


async def test_a_part_of_something_else_is_not_continued(tmp_path: Path) -> None:
    part = tmp_path / "a.part"
    other = DATA[::-1]
    async with played_hub() as hub:
        hub.faults.extend([Fault("cut", 5000), *[Fault("refuse")] * 3])
        with pytest.raises(NetworkError):
            await fetch(hub, part, other)
        assert part.stat().st_size == 5000
        hub.asked.clear()
        await fetch(hub, part)
    assert "range" not in hub.asked[0].headers
    assert part.read_bytes() == DATA


async def test_after_a_loss_of_power_only_what_was_durable_is_believed(tmp_path: Path) -> None:
    part = tmp_path / "a.part"
    async with played_hub() as hub:
        hub.faults.extend([Fault("cut", 5000), *[Fault("refuse")] * 3])
        with pytest.raises(NetworkError):
            await fetch(hub, part)
        journal = part.with_name("a.part.json")
        found = read_journal(part)
        assert found is not None
        journal.write_text(journal.read_text().replace(found.boot, "another"))
        part.write_bytes(bytes(5000))
        await fetch(hub, part)
    assert part.read_bytes() == DATA


async def test_what_a_full_disk_took_is_not_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes the first half of a block and then nothing for one write."""
    data = DATA * 10
    pwrite, taken = os.pwrite, 0

    def full(file: int, some: memoryview, at: int) -> int:
        nonlocal taken
        taken += 1
        if taken == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(file, some[: len(some) // 2] if taken == 1 else some, at)

    monkeypatch.setattr(os, "pwrite", full)
    async with played_hub() as hub:
        with pytest.raises(InsufficientSpaceError):
            await fetch(hub, tmp_path / "a.part", data)
        kept = (tmp_path / "a.part").read_bytes()
        assert kept
        assert data.startswith(kept)
        assert await fetch(hub, tmp_path / "a.part", data) == sha256(data)
    assert hub.ranges_asked() == {"a": [None, f"bytes={len(kept)}-"]}


@pytest.mark.parametrize(
    ("kinds", "error", "requests"),
    [
        (["missing"], FileMissingError, 1),
        (["long"], SizeMismatchError, 1),
        (["announced_long"], HubProtocolError, 1),
        (["gzip"], HubProtocolError, 1),
        (["unranged_206"] * 2, HubProtocolError, 2),
        (["damaged"] * 2, ChecksumError, 2),
        (["refuse"] * 4, NetworkError, 4),
        (["busy"] * 4, NetworkError, 4),
    ],
)
async def test_what_does_not_get_better_ends_with_the_right_error(
    tmp_path: Path, kinds: list[str], error: type[ModelError], requests: int
) -> None:
    async with played_hub() as hub:
        hub.faults.extend(map(Fault, kinds))
        with pytest.raises(error):
            await fetch(hub, tmp_path / "a.part")
    assert len(hub.asked) == requests


async def test_a_damaged_file_is_fetched_once_more(tmp_path: Path) -> None:
    async with played_hub() as hub:
        hub.faults.append(Fault("damaged", 77))
        await fetch(hub, tmp_path / "a.part")
    assert (tmp_path / "a.part").read_bytes() == DATA


async def test_an_old_hub_that_only_knows_plain_ranges_resumes(tmp_path: Path) -> None:
    """What an old client sends, `bytes=N-` alone, and no validator comes back."""
    async with played_hub(old=True) as hub:
        hub.faults.extend([Fault("cut", 100_000), Fault("cut", 100_000)])
        await fetch(hub, tmp_path / "a.part")
    assert [asked.headers.get("range") for asked in hub.asked] == [None, "bytes=100000-", "bytes=200000-"]
    assert (tmp_path / "a.part").read_bytes() == DATA


async def test_a_redirect_leads_to_the_same_hub_only(tmp_path: Path) -> None:
    async with played_hub() as hub, trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        address = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        targets = iter([f"{address}/storage/models/m/1/b", f"{hub.url}/storage/models/m/1/a", "http://["])

        async def redirect(stream: trio.SocketStream) -> None:
            async with stream:
                await stream.receive_some()
                head = f"HTTP/1.1 302 Found\r\nLocation: {next(targets)}\r\nContent-Length: 0\r\n\r\n"
                await stream.send_all(head.encode())

        nursery.start_soon(partial(trio.serve_listeners, redirect, listeners))
        wanted = WantedFile("a", len(DATA), sha256(DATA))
        for why in ("another host", "no address"):
            with pytest.raises(HubProtocolError, match=why):
                await Fetch(address + "/a", "1", wanted, tmp_path / "p", Count(), Gate()).run()
        nursery.cancel_scope.cancel()


async def test_work_holds_a_download_back_but_never_for_good(tmp_path: Path) -> None:
    data = DATA * 12
    gate = Gate(patience_seconds=0.05)
    gate.close()
    async with played_hub({"m": {"1": {"a": data}}}) as hub:
        wanted = WantedFile("a", len(data), sha256(data))
        started = trio.current_time()
        await Fetch(f"{hub.url}/storage/models/m/1/a", "1", wanted, tmp_path / "p", Count(), gate).run()
        assert trio.current_time() - started >= 3 * 0.05
