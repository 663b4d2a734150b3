"""Many deadlines, one timer, against a dictionary."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from linguad.core.deadlines import Deadlines

keys = st.sampled_from("abcd")
times = st.integers(0, 20).map(float)
steps = st.lists(
    st.tuples(st.just("set"), keys, times | st.none())
    | st.tuples(st.just("due"))
    | st.tuples(st.just("pop"), times),
    max_size=60,
)


@given(steps)
def test_against_a_dictionary(history: list[tuple[object, ...]]) -> None:
    deadlines: Deadlines[str] = Deadlines()
    model: dict[str, float] = {}
    for step in history:
        match step:
            case ("set", str(key), None):
                deadlines.set(key, None)
                model.pop(key, None)
            case ("set", str(key), float(at)):
                deadlines.set(key, at)
                model[key] = at
            case ("due",):
                assert deadlines.due() == min(model.values(), default=None)
            case ("pop", float(now)):
                earliest = min(model.values(), default=None)
                key = deadlines.pop(now)
                if earliest is None or earliest > now:
                    assert key is None
                else:
                    assert key is not None
                    assert model.pop(key) == earliest
        assert len(deadlines) == len(model)
    passed = []
    while (key := deadlines.pop(1e9)) is not None:
        passed.append(model.pop(key))
    assert passed == sorted(passed)
    assert not model
    assert deadlines.due() is None


def test_pushing_a_deadline_away_costs_no_heap_operation() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for at in range(1000):
        deadlines.set("a", float(at))
    assert len(deadlines._heap) == 1
    assert deadlines.due() == 999.0
    assert len(deadlines._heap) == 1


def test_doing_something_about_one_key_may_move_another() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 1.0)
    deadlines.set("b", 2.0)
    assert deadlines.pop(3.0) == "a"
    deadlines.set("b", 9.0)
    assert deadlines.pop(3.0) is None
    assert deadlines.due() == 9.0
