"""Results leave in order (session-protocol 5.5), first by example, then against a naive model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from linguad.core.ordering import Released, ResultOrder

GAP_S = 3.0


def order(*opened: int, gap_s: float = GAP_S, max_waiting: int = 200) -> ResultOrder[str]:
    made: ResultOrder[str] = ResultOrder(gap_s, max_waiting)
    for index in opened:
        made.open(index)
    return made


def told(released: list[Released[str]]) -> list[str]:
    """Each release in a word: `1:b`, `1:skipped`, `1:evicted`, `1:b late`."""
    return [
        f"{slot.index}:{slot.item or ('evicted' if slot.evicted else 'skipped')}" + " late" * slot.late
        for slot in released
    ]


def test_in_order_at_once() -> None:
    stream = order(0, 1)
    assert told(stream.resolve(0, "a", 0.0)) == ["0:a"]
    assert told(stream.resolve(1, "b", 0.0)) == ["1:b"]
    assert stream.open_slots == 0
    assert stream.due() is None


def test_two_zero_one() -> None:
    stream = order(0, 1, 2)
    assert told(stream.resolve(2, "c", 0.0)) == []
    assert told(stream.resolve(0, "a", 0.1)) == ["0:a"]
    assert told(stream.resolve(1, "b", 0.2)) == ["1:b", "2:c"]


def test_a_lost_one_is_skipped_after_the_gap() -> None:
    stream = order(0, 1, 2)
    stream.resolve(0, "a", 0.0)
    stream.resolve(2, "c", 1.0)
    assert stream.due() == 4.0
    assert stream.tick(3.9) == []
    assert told(stream.tick(4.0)) == ["1:skipped", "2:c"]
    assert told(stream.resolve(1, "b", 5.0)) == ["1:b late"]


def test_nothing_is_skipped_while_nothing_waits() -> None:
    stream = order(0, 1)
    assert stream.due() is None
    assert stream.tick(1e9) == []


def test_the_gap_counts_from_the_first_one_that_waits() -> None:
    stream = order(0, 1, 2, 3)
    stream.resolve(3, "d", 1.0)
    stream.resolve(1, "b", 3.0)
    assert told(stream.tick(4.0)) == ["0:skipped", "1:b", "2:skipped", "3:d"]


def test_the_gap_starts_anew_for_those_that_came_later() -> None:
    stream = order(0, 1, 2, 3)
    stream.resolve(1, "b", 1.0)
    stream.resolve(3, "d", 2.0)
    assert told(stream.tick(4.0)) == ["0:skipped", "1:b"]
    assert stream.due() == 5.0
    assert told(stream.tick(5.0)) == ["2:skipped", "3:d"]


def test_gap_of_zero_waits_for_nobody() -> None:
    stream = order(0, 1, gap_s=0.0)
    stream.resolve(1, "b", 1.0)
    assert told(stream.tick(1.0)) == ["0:skipped", "1:b"]


def test_too_many_finished_evict_the_oldest_open() -> None:
    stream = order(0, 1, 2, 3, 4, max_waiting=2)
    assert stream.resolve(1, "b", 0.0) + stream.resolve(3, "d", 0.0) == []
    assert told(stream.resolve(4, "e", 0.0)) == ["0:evicted", "1:b"]
    assert told(stream.resolve(2, "c", 0.0)) == ["2:c", "3:d", "4:e"]


def test_a_better_item_takes_the_place_of_one_that_waits() -> None:
    stream = order(0, 1)
    stream.resolve(1, "nothing", 1.0)
    assert stream.resolve(1, "b", 2.0) == []
    assert stream.due() == 4.0
    assert told(stream.resolve(0, "a", 2.0)) == ["0:a", "1:b"]


def test_a_better_item_after_leaving_is_late() -> None:
    stream = order(0)
    assert told(stream.resolve(0, "nothing", 1.0)) == ["0:nothing"]
    assert told(stream.resolve(0, "a", 1.0)) == ["0:a late"]


def test_opening_twice_is_once() -> None:
    stream = order(0, 0)
    assert stream.open_slots == 1


def test_drain_leaves_out_what_is_open() -> None:
    stream = order(0, 1, 2, 3, 4)
    stream.resolve(3, "d", 0.0)
    stream.resolve(1, "b", 0.0)
    assert told(stream.drain()) == ["1:b", "3:d"]
    assert stream.due() is None
    assert stream.open_slots == 1
    assert told(stream.resolve(0, "a", 0.0)) == ["0:a late"]
    assert told(stream.resolve(4, "e", 0.0)) == ["4:e"]


def test_drain_of_nothing_skips_nothing() -> None:
    stream = order(0, 1)
    assert stream.drain() == []
    assert told(stream.resolve(0, "a", 0.0)) == ["0:a"]


class Naive:
    """The rules of session-protocol 5.5, told as slowly as possible."""

    def __init__(self, max_waiting: int) -> None:
        self.max_waiting = max_waiting
        self.slots: dict[int, tuple[str, float] | None] = {}

    def _heads(self) -> list[str]:
        left = []
        while self.slots and (first := self.slots[min(self.slots)]) is not None:
            left.append(f"{min(self.slots)}:{first[0]}")
            del self.slots[min(self.slots)]
        return left

    def _skip_first(self, word: str) -> list[str]:
        index = min(self.slots)
        assert self.slots.pop(index) is None
        return [f"{index}:{word}", *self._heads()]

    def waiting(self) -> list[float]:
        return [slot[1] for slot in self.slots.values() if slot is not None]

    def resolve(self, index: int, item: str, now: float) -> list[str]:
        if index not in self.slots:
            return [f"{index}:{item} late"]
        before = self.slots[index]
        self.slots[index] = (item, now if before is None else before[1])
        left = self._heads()
        while len(self.waiting()) > self.max_waiting:
            left += self._skip_first("evicted")
        return left

    def tick(self, now: float) -> list[str]:
        left = []
        while self.waiting() and min(self.waiting()) + GAP_S <= now:
            left += self._skip_first("skipped")
        return left


steps = st.lists(
    st.tuples(st.just("open"), st.integers(1, 3))
    | st.tuples(st.just("resolve"), st.integers(0, 30))
    | st.tuples(st.just("wait"), st.sampled_from([0.5, 1.0, 2.9, 3.0, 10.0])),
    max_size=80,
)


@given(steps, st.integers(1, 5))
def test_against_the_naive_model(history: list[tuple[str, float]], max_waiting: int) -> None:
    """Order is kept, and every index leaves exactly once unless it is late."""
    stream, naive = order(max_waiting=max_waiting), Naive(max_waiting)
    opened: list[int] = []
    left: list[str] = []
    now, following = 0.0, 0
    for number, (what, value) in enumerate(history):
        match what:
            case "open":
                following += int(value)
                opened.append(following)
                stream.open(following)
                naive.slots[following] = None
                continue
            case "resolve" if opened:
                index = opened[int(value) % len(opened)]
                released = told(stream.resolve(index, f"r{number}", now))
                assert released == naive.resolve(index, f"r{number}", now)
            case _:
                now += value
                released = told(stream.tick(now))
                assert released == naive.tick(now)
        left += released
        assert stream.open_slots == len(naive.slots)
        due = stream.due()
        assert due == (min(naive.waiting()) + GAP_S if naive.waiting() else None)
        assert due is None or due > now or what == "resolve"
    punctual = [int(word.partition(":")[0]) for word in left if not word.endswith("late")]
    assert punctual == sorted(set(punctual))
    assert punctual == [index for index in opened if index not in naive.slots]
