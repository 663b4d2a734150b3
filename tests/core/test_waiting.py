"""Jobs that wait for a node, against lists (resolution 30)."""

from __future__ import annotations

from core.support import request, sound
from hypothesis import given
from hypothesis import strategies as st

from linguad.core.job import Job
from linguad.core.key import Key
from linguad.core.lanes import Lane
from linguad.core.services import Services
from linguad.core.waiting import QUANTUM_S, WaitingRoom

KEYS = [Key("en", "es", Services.ASR), Key("zh", "en", Services.ASR), Key("*", "en", Services.ASR)]


def job(
    name: str, lane: str, index: int, key: Key = KEYS[0], tenant: str = "direct", seconds: float = 1.0
) -> Job:
    made = request(index, lane, tenant=tenant)
    return Job(
        id=name,
        request=made,
        key=key,
        lane=Lane(made.lane, 0),
        audio=sound(seconds),
        seconds=seconds,
        created_at=0.0,
    )


def test_a_retried_job_comes_before_the_later_ones_of_its_lane() -> None:
    room = WaitingRoom()
    later, earlier, other = job("a", "s-1", 5), job("b", "s-1", 3), job("c", "s-2", 0)
    for waiting in (later, earlier, other):
        room.add(waiting)
    assert room.head("s-1") is earlier
    assert list(room.offers(KEYS[0])) == [earlier, other]
    room.remove(earlier)
    assert list(room.offers(KEYS[0])) == [later, other]


def test_a_lane_is_in_order_across_keys() -> None:
    room = WaitingRoom()
    first, second = job("a", "s-1", 0, KEYS[1]), job("b", "s-1", 1, KEYS[0])
    room.add(first)
    room.add(second)
    assert list(room.offers(KEYS[0])) == []
    room.remove(first)
    assert list(room.offers(KEYS[0])) == [second]


def test_few_short_jobs_of_a_busy_tenant_go_before_a_new_one() -> None:
    room = WaitingRoom()
    for number in range(50):
        room.add(job(f"busy-{number}", f"s-{number}", 0, tenant="busy"))
    for _ in range(7):
        room.send(next(room.offers(KEYS[0])))
    room.add(job("new", "s-new", 0, tenant="new"))
    ahead = 0
    while (sent := next(room.offers(KEYS[0]))).id != "new":
        room.send(sent)
        ahead += 1
    assert ahead <= 1


def test_jobs_may_be_removed_while_offers_are_read() -> None:
    room = WaitingRoom()
    jobs = [job(str(number), f"s-{number % 2}", number) for number in range(6)]
    for waiting in jobs:
        room.add(waiting)
    seen = []
    for head in room.offers(KEYS[0]):
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
            assert list(room.offers(key)) == heads


def served(room: WaitingRoom, count: int) -> list[str]:
    """The tenants of the next jobs sent, one slot at a time."""
    order = []
    for _ in range(count):
        chosen = next(room.offers(KEYS[0]))
        room.send(chosen)
        order.append(chosen.request.tenant)
    return order


def test_a_tenant_with_a_long_queue_does_not_hold_up_the_others() -> None:
    room = WaitingRoom()
    for number in range(50):
        room.add(job(f"big-{number}", f"b-{number}", 0, tenant="big", seconds=10.0))
    for number in range(3):
        room.add(job(f"small-{number}", f"s-{number}", 0, tenant="small", seconds=10.0))
    assert served(room, 6).count("small") == 3


@given(st.lists(st.floats(0.1, 30.0), min_size=40, max_size=40))
def test_tenants_get_equal_audio_time(lengths: list[float]) -> None:
    room, sent_s = WaitingRoom(), {"x": 0.0, "y": 0.0}
    for tenant in sent_s:
        for number, seconds in enumerate(lengths):
            room.add(job(f"{tenant}-{number}", f"{tenant}-{number}", 0, tenant=tenant, seconds=seconds))
    for _ in range(30):
        chosen = next(room.offers(KEYS[0]))
        room.send(chosen)
        sent_s[chosen.request.tenant] += chosen.audio.seconds if chosen.audio else 0.0
    assert abs(sent_s["x"] - sent_s["y"]) <= QUANTUM_S + 30.0


def test_what_is_given_up_costs_nothing() -> None:
    room = WaitingRoom()
    for number in range(4):
        room.add(job(f"x-{number}", f"x-{number}", 0, tenant="x", seconds=10.0))
    room.add(job("y", "y", 0, tenant="y", seconds=10.0))
    room.remove(next(room.offers(KEYS[0])))
    assert served(room, 1) == ["x"]


def test_jobs_are_counted_by_tenant() -> None:
    room = WaitingRoom()
    first, second = job("a", "s-1", 0, tenant="x"), job("b", "s-2", 0, tenant="y")
    room.add(first)
    room.add(second)
    assert (room.of_tenant("x"), room.of_tenant("y"), len(room)) == (1, 1, 2)
    room.remove(first)
    assert (room.of_tenant("x"), room.of_tenant("y"), len(room)) == (0, 1, 1)
