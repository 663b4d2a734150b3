"""The outbox against a naive model, and the budget it shares."""

from __future__ import annotations

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad.net.outbox import Budget, Data, Later, Outbox

MOST_MESSAGES = 6
MOST_BYTES = 60

messages = st.text(max_size=20) | st.binary(max_size=70)


class OutboxMachine(RuleBasedStateMachine):
    """The model is a plain list; it drops as the rules in the docstring of `Outbox` say."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(100)
        self.drops = 0
        self.outbox = Outbox(MOST_MESSAGES, MOST_BYTES, self.budget, self.count_drop)
        self.queue: list[tuple[Data | Later, bool]] = []
        self.writing: list[Data | Later] = []
        self.promised: list[Later] = []
        self.sizes: dict[Later, int] = {}
        self.grown = 0
        self.dropped = 0

    def count_drop(self) -> None:
        self.drops += 1

    def size(self) -> int:
        held = [data for data, _ in self.queue] + self.writing
        return sum(map(self.size_of, held))

    def size_of(self, data: Data | Later) -> int:
        if isinstance(data, Later):
            return self.sizes[data]
        return len(data if isinstance(data, bytes) else data.encode())

    def fits(self, data: Data | Later, part: int) -> bool:
        more = self.size_of(data)
        return len(self.queue) + 1 <= MOST_MESSAGES // part and self.size() + more <= MOST_BYTES // part

    @rule(estimate=st.integers(1, 70), optional=st.booleans())
    def promise(self, estimate: int, optional: bool) -> None:
        later = Later(estimate, b"")
        self.promised.append(later)
        self.sizes[later] = estimate
        self.put(later, optional)

    @precondition(lambda self: self.promised)
    @rule(data=messages, which=st.integers(0, 100))
    def keep(self, data: Data, which: int) -> None:
        """The message may wait, be written, or have left long ago."""
        later = self.promised.pop(which % len(self.promised))
        estimate, self.sizes[later] = self.sizes[later], self.size_of(data)
        self.grown += max(0, self.sizes[later] - estimate)
        later.set(data)

    @rule(data=messages, optional=st.booleans())
    def put(self, data: Data | Later, optional: bool) -> None:
        part = 2 if optional else 1
        while not self.fits(data, part) and any(flag for _, flag in self.queue):
            oldest = next(index for index, (_, flag) in enumerate(self.queue) if flag)
            del self.queue[oldest]
            self.dropped += 1
        fits = self.fits(data, part)
        if fits:
            self.queue.append((data, optional))
        elif optional:
            self.dropped += 1
        assert self.outbox.put(data, optional) == (fits or optional)

    @rule()
    def take(self) -> None:
        self.writing = [self.queue.pop(0)[0]] if self.queue else []
        assert self.outbox.take() == (self.writing[0] if self.writing else None)

    @precondition(lambda self: self.writing and not isinstance(self.writing[0], Later))
    @rule(most=st.integers(0, 70))
    def take_along(self, most: int) -> None:
        data = self.queue[0][0] if self.queue else None
        if data is None or isinstance(data, Later) or self.size_of(data) > most:
            assert self.outbox.take_along(most) is None
            return
        self.writing.append(self.queue.pop(0)[0])
        assert self.outbox.take_along(most) == data

    @rule()
    def clear(self) -> None:
        self.queue.clear()
        self.writing = []
        self.outbox.clear()

    @invariant()
    def counts_are_exact(self) -> None:
        statistics = self.outbox.statistics()
        assert statistics.bytes == self.size() == self.budget.used
        assert statistics.dropped == self.dropped == self.drops
        assert statistics.bytes <= MOST_BYTES + self.grown


OutboxMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestOutboxMachine = OutboxMachine.TestCase


def test_budget_tells_when_too_much_is_held() -> None:
    budget = Budget(100)
    first, second = Outbox(10, 1000, budget), Outbox(10, 1000, budget)
    assert first.put(b"x" * 60)
    assert not budget.over
    assert second.put(b"x" * 60)
    assert budget.over
    assert budget.used == 120
    second.clear()
    assert not budget.over


async def test_writer_waits_for_a_message(autojump_clock: MockClock) -> None:
    outbox = Outbox(10, 1000)
    got: list[Data | Later | None] = []

    async def write() -> None:
        while True:
            data = outbox.take()
            if data is None:
                await outbox.wait()
            else:
                got.append(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        for number in range(3):
            await wait_all_tasks_blocked()
            outbox.put(f"{number}a")
            outbox.put(f"{number}b")
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert got == ["0a", "0b", "1a", "1b", "2a", "2b"]


async def test_wait_returns_at_once_when_there_is_something(autojump_clock: MockClock) -> None:
    outbox = Outbox(10, 1000)
    outbox.put(b"x")
    with trio.fail_after(1):
        await outbox.wait()


async def test_wake_without_a_message(autojump_clock: MockClock) -> None:
    outbox = Outbox(10, 1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.wait)
        await wait_all_tasks_blocked()
        outbox.wake()
    assert outbox.take() is None


async def test_promise_is_kept_once(autojump_clock: MockClock) -> None:
    outbox, later = Outbox(10, 1000), Later(500, "instead")
    assert outbox.put(later)
    assert (outbox.statistics().bytes, later.size) == (500, 500)
    assert outbox.take() is later
    async with trio.open_nursery() as nursery:
        nursery.start_soon(later.wait)
        await wait_all_tasks_blocked()
        later.set("as promised")
        later.fail()
    assert await later.wait() == "as promised"
    assert outbox.statistics().bytes == len("as promised")


async def test_promise_that_cannot_be_kept_is_its_fallback(autojump_clock: MockClock) -> None:
    later = Later(500, "instead")
    later.fail()
    assert await later.wait() == "instead"


@pytest.mark.parametrize("data", ["ü" * 10, b"x" * 20])
def test_size_is_that_on_the_wire(data: str | bytes) -> None:
    outbox = Outbox(10, 20)
    assert outbox.put(data)
    assert outbox.statistics().bytes == 20
