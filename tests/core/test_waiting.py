"""Jobs that wait for a node, against lists (resolution 30, as far as built)."""

from __future__ import annotations

from core.support import request, sound
from hypothesis import given
from hypothesis import strategies as st

from linguad.core.job import Job
from linguad.core.node import Key, Services
from linguad.core.waiting import WaitingRoom

KEYS = [Key("en", "es", Services.ASR), Key("zh", "en", Services.ASR), Key("*", "en", Services.ASR)]


def job(name: str, lane: str, index: int, key: Key = KEYS[0]) -> Job:
    return Job(id=name, request=request(index, lane), key=key, audio=sound(), created_at=0.0)


def test_a_retried_job_comes_before_the_later_ones_of_its_lane() -> None:
    room = WaitingRoom()
    later, earlier, other = job("a", "s-1", 5), job("b", "s-1", 3), job("c", "s-2", 0)
    for waiting in (later, earlier, other):
        room.add(waiting)
    assert room.head("s-1") is earlier
    assert list(room.heads(KEYS[0])) == [earlier, other]
    room.remove(earlier)
    assert list(room.heads(KEYS[0])) == [later, other]


def test_a_lane_is_in_order_across_keys() -> None:
    room = WaitingRoom()
    first, second = job("a", "s-1", 0, KEYS[1]), job("b", "s-1", 1, KEYS[0])
    room.add(first)
    room.add(second)
    assert list(room.heads(KEYS[0])) == []
    room.remove(first)
    assert list(room.heads(KEYS[0])) == [second]


def test_jobs_may_be_removed_while_heads_are_read() -> None:
    room = WaitingRoom()
    jobs = [job(str(number), f"s-{number % 2}", number) for number in range(6)]
    for waiting in jobs:
        room.add(waiting)
    seen = []
    for head in room.heads(KEYS[0]):
        seen.append(head)
        room.remove(head)
    assert seen == jobs
    assert len(room) == 0


moves = st.lists(
    st.tuples(st.just("add"), st.sampled_from("xyz"), st.integers(0, 9), st.sampled_from(KEYS))
    | st.tuples(st.just("remove"), st.integers(0, 100)),
    max_size=60,
)


@given(moves)
def test_against_lists(history: list[tuple[object, ...]]) -> None:
    room, model = WaitingRoom(), []
    for number, step in enumerate(history):
        match step:
            case ("add", str(lane), int(index), Key() as key):
                added = job(str(number), lane, index, key)
                room.add(added)
                model.append(added)
            case ("remove", int(which)) if model:
                room.remove(removed := model.pop(which % len(model)))
                assert removed not in room
        assert len(room) == len(model)
        assert all(waiting in room for waiting in model)
        assert set(room.keys()) == {waiting.key for waiting in model}
        for lane in "xyz":
            of_lane = sorted(
                (w for w in model if w.request.lane == lane), key=lambda w: w.request.utterance_index
            )
            assert room.head(lane) is (of_lane[0] if of_lane else None)
        for key in KEYS:
            heads = [w for w in model if w.key == key and room.head(w.request.lane) is w]
            assert list(room.heads(key)) == heads
