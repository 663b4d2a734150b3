"""A bell wakes its task each time, and only when it waits."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad.net.bell import Bell


async def test_each_ring_ends_one_wait(autojump_clock: MockClock) -> None:
    bell, woken = Bell(), 0

    async def listen() -> None:
        nonlocal woken
        while True:
            await bell.wait()
            woken += 1

    async with trio.open_nursery() as nursery:
        bell.ring()
        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        assert woken == 0
        for count in (1, 2):
            bell.ring()
            bell.ring()
            await wait_all_tasks_blocked()
            assert woken == count
        nursery.cancel_scope.cancel()


async def test_a_wait_can_be_given_up_and_begun_again(autojump_clock: MockClock) -> None:
    bell = Bell()
    with trio.move_on_after(1) as patience:
        await bell.wait()
    assert patience.cancelled_caught
    bell.ring()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bell.wait)
        await wait_all_tasks_blocked()
        bell.ring()
