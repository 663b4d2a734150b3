"""A day of gauges in a ring: the last values come back in order, and it does not grow."""

from __future__ import annotations

import pytest
import trio
from harness import daemon_in_memory
from hypothesis import given
from hypothesis import strategies as st
from looking import app_of, get
from trio.testing import MockClock

from linguad.ops.gauges import GAUGES
from linguad.ops.history import MINUTES, History


@given(written=st.integers(0, 3 * MINUTES), wanted=st.integers(1, MINUTES))
def test_the_last_values_in_order(written: int, wanted: int) -> None:
    history = History(["a", "b"])
    for number in range(written):
        history.add({"a": number, "b": -number, "c": 7}, number * 60_000)
    found = history.last(wanted)
    expected = list(range(written))[-min(wanted, MINUTES) :]
    assert found["gauges"] == {"a": expected, "b": [-number for number in expected]}
    assert found["minutes"] == len(expected) == min(written, wanted, MINUTES)
    assert found["until_ms"] == max(0, written - 1) * 60_000
    assert len(history) == min(written, MINUTES)


async def test_written_each_minute_and_told(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        world.nursery.start_soon(world.daemon.watch.run)
        app = app_of(world.daemon)
        assert (await get(app, "/api/v1/history"))["minutes"] == 0
        await trio.sleep(90)
        await world.client()
        await trio.sleep(60)
        body = await get(app, "/api/v1/history?minutes=5")
        assert (body["interval_seconds"], body["minutes"]) == (60, 2)
        assert set(body["gauges"]) == set(GAUGES)
        assert body["gauges"]["sessions"] == [0, 1]
        assert (await get(app, "/api/v1/history?minutes=1"))["gauges"]["sessions"] == [1]


@pytest.mark.parametrize("query", ["minutes=0", "minutes=1441", "minutes=x", "minutes=", "hours=1"])
async def test_what_cannot_be_asked(query: str, autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        body = await get(app_of(world.daemon), f"/api/v1/history?{query}", 400)
    assert body["error"]["code"] == "invalid_value"
    assert query.partition("=")[0] in body["error"]["message"]
