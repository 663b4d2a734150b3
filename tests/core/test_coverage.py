"""Which languages are served now, against a look at every node for every pair; and what is nearest."""

from __future__ import annotations

from typing import Any

import pytest
from core.support import SPEECH, SUBTITLES, Desk, languages, request, services
from core.test_node import codes, offers
from hypothesis import given
from hypothesis import strategies as st

from linguad.core import coverage
from linguad.core.coverage import FRESH_S, MAX_ALTERNATIVES, Coverage, Served, Unserved
from linguad.core.fleet import Fleet
from linguad.core.health import Status
from linguad.core.key import Key
from linguad.core.languages import Pair
from linguad.core.rules import NodeRules
from linguad.core.services import CORE_SERVICES
from linguad.wire.common import FeatureFlags, PipelineConfig
from linguad.wire.override import Override

KNOWN = ["en", "zh", "ja", "de"]
TRANSCRIPT = PipelineConfig(use_nmt=False, use_tts=False)


def pairs(desk: Desk) -> dict[str, tuple[int, int]]:
    """Ready nodes and free slots of every served pair, written `en>zh`; by somebody who asks first."""
    found = Coverage(desk.fleet).pairs(desk.now)
    return {f"{one.src}>{one.tgt}": (one.ready_nodes, one.free_slots) for one in found}


def unserved(desk: Desk, src: str, tgt: str, **members: Any) -> Unserved | None:
    """The problem with a job, for somebody who asks first."""
    asked = request(src=src, tgt=tgt, **members)
    return Coverage(desk.fleet).problem(asked, desk.dispatch.key_of(asked), desk.now)


def nearest(desk: Desk, src: str, tgt: str, **members: Any) -> list[str]:
    """The alternatives for what is not served."""
    problem = unserved(desk, src, tgt, **members)
    assert problem is not None
    return [f"{src}>{tgt}" for src, tgt in problem.alternatives]


def by_looking(fleet: Fleet) -> list[Served]:
    """Every node is asked for every pair."""
    found = []
    for src in sorted(KNOWN):
        for tgt in sorted(KNOWN):
            key = Key(src, tgt, CORE_SERVICES)
            ready = [n for n in fleet.nodes.values() if n.status is Status.READY and n.fits(key)]
            free = sum(max(0, node.slots - fleet.slots_used(node.id)) for node in ready)
            if ready:
                found.append(Served(src, tgt, len(ready), free))
    return found


nodes = st.fixed_dictionaries(
    {
        "language_capabilities": offers | codes.map(lambda known: languages(*known)),
        "installed_services": st.sampled_from(
            [services("asr", "nmt", "tts")] * 3
            + [services("asr", "nmt"), services("asr"), services("asr", "nmt", "tts", "tone")]
        ),
        "accept_public_jobs": st.sampled_from([None, True, True, False]),
        "cap": st.integers(1, 3),
    }
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["node", "node", "lose", "job", "fail", "drain", "cap"]), st.integers(0, 5), nodes
    ),
    max_size=25,
)


def live(desk: Desk, history: list[tuple[str, int, dict[str, Any]]]) -> None:
    """Nodes come and go, work, fail, are drained and capped."""
    for number, (what, which, members) in enumerate(history):
        node_id = f"n{which}"
        if what == "node":
            desk.node(node_id, **members)
        elif what == "job":
            desk.submit(number, src=KNOWN[which % 4], tgt=KNOWN[number % 4])
        elif node_id not in desk.connections:
            continue
        elif what == "lose":
            desk.lose(node_id)
        elif what == "fail":
            row = desk.fleet.row_of(node_id)
            assert row is not None
            desk.fleet.job_ended(row, desk.now, usable=False, blame=True, sent_at=desk.now)
        else:
            said = Override(drain=True) if what == "drain" else Override(cap=1 + which)
            desk.dispatch.override(node_id, said, desk.now)


@given(steps)
def test_what_is_served_after_any_history(history: list[tuple[str, int, dict[str, Any]]]) -> None:
    """Once at the end, and by somebody who asked all the time."""
    desk = Desk()
    watcher = Coverage(desk.fleet)
    for step in history:
        live(desk, [step])
        desk.now += 10.0
        assert watcher.pairs(desk.now) == by_looking(desk.fleet)
    assert Coverage(desk.fleet).pairs(desk.now) == by_looking(desk.fleet)


requests = st.fixed_dictionaries(
    {
        "src": st.sampled_from([*KNOWN, "auto"]),
        "tgt": st.sampled_from(KNOWN),
        "pipeline": st.sampled_from([SPEECH, SUBTITLES, TRANSCRIPT, PipelineConfig(use_tone=True)]),
        "node_id": st.sampled_from(["", "", "n1"]),
    }
)


@given(steps, requests)
def test_alternatives_are_served(
    history: list[tuple[str, int, dict[str, Any]]], members: dict[str, Any]
) -> None:
    """To the same wishes; and if a target, or else a source, is left for what is wanted, one is told."""
    desk = Desk()
    live(desk, history)
    asked = request(**members)
    key = desk.dispatch.key_of(asked)
    problem = Coverage(desk.fleet).problem(asked, key, desk.now)
    assert (problem is None) == desk.fleet.has_ready(key)
    if problem is None:
        return
    assert (problem.src, problem.tgt) == (asked.src_lang, asked.tgt_lang)
    assert len(set(problem.alternatives)) == len(problem.alternatives) <= MAX_ALTERNATIVES
    other: list[Pair] = [(asked.src_lang, tgt) for tgt in KNOWN] + [(src, asked.tgt_lang) for src in KNOWN]

    def served(src: str, tgt: str) -> bool:
        return desk.fleet.has_ready(desk.dispatch.key_of(request(**(members | {"src": src, "tgt": tgt}))))

    assert set(problem.alternatives) == {pair for pair in other if served(*pair)}


def test_slots_are_counted_for_every_pair_of_their_nodes() -> None:
    desk = Desk()
    desk.node("a", "en", "zh", cap=3)
    desk.node("b", "en", "zh", "ja", cap=2)
    desk.submit(0, src="en", tgt="zh")
    assert pairs(desk) == {
        "en>zh": (2, 4),
        "zh>en": (2, 4),
        **dict.fromkeys(("en>ja", "ja>en", "zh>ja", "ja>zh"), (1, 2 if desk.used("a") else 1)),
    }


def test_only_nodes_that_would_be_selected() -> None:
    desk = Desk()
    for name in ("lost", "drained", "private", "silent", "capped"):
        desk.node(name, accept_public_jobs=name != "private")
    assert pairs(desk)["en>es"] == (4, 16)
    desk.lose("lost")
    desk.dispatch.override("drained", Override(drain=True), desk.now)
    desk.dispatch.override("capped", Override(cap=1), desk.now)
    desk.beat("silent", installed_services=services("asr", "nmt", "tts", status="stopped"))
    assert pairs(desk) == {"en>es": (1, 1), "es>en": (1, 1)}
    desk.submit(0)
    assert pairs(desk)["en>es"] == (1, 0)
    assert unserved(desk, "en", "es") is None, "busy is not unserved"
    desk.dispatch.override("drained", Override(), desk.now)
    assert pairs(desk)["en>es"] == (2, 4)


def test_failed_nodes_serve_nothing_and_have_one_slot_on_probation() -> None:
    desk = Desk()
    desk.node("a")
    row = desk.fleet.row_of("a")
    assert row is not None
    for _ in range(NodeRules().consecutive_failure_count):
        desk.fleet.job_ended(row, desk.now, usable=False, blame=True, sent_at=desk.now)
    assert pairs(desk) == {}
    assert unserved(desk, "en", "es") == Unserved("en", "es", ())
    desk.beat("a")
    assert pairs(desk)["en>es"] == (1, 1)


class TestNearest:
    def test_targets_first_and_those_with_most_nodes(self) -> None:
        desk = Desk()
        desk.node("a", "en", "de", "es")
        desk.node("b", "en", "de")
        desk.node("c", "it", "zh", "ja", "de")
        desk.node("d", "ja", "zh")
        assert nearest(desk, "en", "zh") == ["en>de", "en>es", "ja>zh", "de>zh", "it>zh"]
        assert nearest(desk, "fr", "zh") == ["ja>zh", "de>zh", "it>zh"]
        assert nearest(desk, "en", "fr") == ["en>de", "en>es"]
        assert nearest(desk, "fr", "pt") == []

    def test_at_most_8(self) -> None:
        desk = Desk()
        desk.node("a", "en", *(f"t{number}" for number in range(12)))
        assert nearest(desk, "en", "zh") == [f"en>t{number}" for number in (0, 1, 10, 11, 2, 3, 4, 5)]

    def test_of_an_unknown_source_the_best_one_counts(self) -> None:
        desk = Desk()
        desk.node("a", "en", "de")
        desk.node("b", "en", "ja")
        desk.node("c", "en", "ja")
        assert nearest(desk, "auto", "zh") == ["auto>en", "auto>ja", "auto>de"]

    def test_codes_are_normalised(self) -> None:
        desk = Desk()
        desk.node("a")
        assert unserved(desk, "EN-us", "zh-CN") == Unserved("en", "zh", (("en", "es"),))

    def test_without_translation(self) -> None:
        desk = Desk()
        desk.node("a", "en", "es")
        assert nearest(desk, "zh", "fr", pipeline=TRANSCRIPT) == ["en>fr", "es>fr"]

    def test_both_ways(self) -> None:
        desk = Desk()
        desk.node("a", "en", "es", "de")
        assert nearest(desk, "auto", "zh", lang_a="en", lang_b="zh") == ["en>de", "en>es"]

    def test_of_what_the_paired_node_does(self) -> None:
        desk = Desk()
        desk.node("mine", "en", "de", accept_public_jobs=False)
        desk.node("other", "en", "zh")
        assert unserved(desk, "en", "zh") is None
        assert nearest(desk, "en", "zh", node_id="mine") == ["en>de"]
        assert nearest(desk, "en", "zh", node_id="nobody") == []

    def test_with_the_features_that_are_required(self) -> None:
        desk = Desk(require_features=True)
        wanted = FeatureFlags(emotion_detection=True)
        desk.node("a", "en", "de")
        desk.node("able", "en", "de", features_supported=wanted)
        desk.node("b", "en", "zh", "ja")
        assert nearest(desk, "en", "zh", features=wanted) == ["en>de"]


class TestEffort:
    """How often others ask and what nodes claim does not stop the server."""

    def test_a_survey_holds_for_a_while(self) -> None:
        desk = Desk()
        desk.node("a")
        made = Coverage(desk.fleet)
        found = made.pairs(desk.now)
        desk.node("b")
        assert made.pairs(desk.now + 0.9 * FRESH_S) is found
        assert made.pairs(desk.now + FRESH_S) == both_ways_of("en", "es", 2, 8)
        assert found == both_ways_of("en", "es", 1, 4), "what was told stays as it was"

    def test_a_problem_is_told_at_once(self) -> None:
        desk = Desk()
        desk.node("a")
        made, asked = Coverage(desk.fleet), request()
        assert made.pairs(desk.now)
        desk.lose("a")
        assert made.problem(asked, desk.dispatch.key_of(asked), desk.now) is not None
        desk.node("a")
        assert made.problem(asked, desk.dispatch.key_of(asked), desk.now) is None

    def test_alternatives_of_a_while_ago_are_others_at_least(self) -> None:
        desk = Desk()
        desk.node("a", "en", "es", "de")
        made, asked = Coverage(desk.fleet), request()
        key = desk.dispatch.key_of(asked)
        assert made.pairs(desk.now)
        desk.lose("a")
        assert made.problem(asked, key, desk.now) == Unserved("en", "es", (("en", "de"), ("de", "es")))
        desk.node("b", "en", "zh")
        desk.now += FRESH_S
        assert made.problem(asked, key, desk.now) == Unserved("en", "es", (("en", "zh"),))

    def test_much_work_is_not_done_again_so_soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(coverage, "WORK_PER_S", 1)
        desk = Desk()
        desk.node("a")
        made = Coverage(desk.fleet)
        assert made.pairs(desk.now)
        desk.node("b")
        desk.now += 3 * FRESH_S
        assert made.pairs(desk.now) == both_ways_of("en", "es", 1, 4)
        asked = request(tgt="zh", pipeline=SUBTITLES)
        problem = made.problem(asked, desk.dispatch.key_of(asked), desk.now)
        assert problem == Unserved("en", "zh", ()), "wishes of others have to wait"
        desk.now += 100.0
        assert made.pairs(desk.now) == both_ways_of("en", "es", 2, 8)

    def test_long_reports_are_read_bit_by_bit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(coverage, "MAX_READ", 5)
        desk = Desk()
        desk.node("a", *KNOWN)
        desk.node("b", "en", "zh")
        made, seen = Coverage(desk.fleet), []
        for _ in range(4):
            desk.now += FRESH_S
            seen.append(len(made.pairs(desk.now)))
        assert seen == [5, 9, 12, 12]
        assert made.pairs(desk.now) == by_looking(desk.fleet)

    def test_who_claims_most_comes_last(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(coverage, "MAX_PAIRS", 10)
        desk = Desk()
        desk.node("boaster", *(f"x{number}" for number in range(20)))
        desk.node("a", "en", "zh")
        desk.node("b", "en", "de")
        made = Coverage(desk.fleet)
        for _ in range(3):
            found = {(one.src, one.tgt) for one in made.pairs(desk.now)}
            assert found > {("en", "zh"), ("zh", "en"), ("en", "de"), ("de", "en")}
            assert len(found) == 10
            desk.now += FRESH_S
        desk.node("c", "en", "ja")
        assert {("en", "ja"), ("ja", "en")} < {(one.src, one.tgt) for one in made.pairs(desk.now)}

    def test_what_nobody_serves_any_more_is_forgotten(self) -> None:
        """Else a node that claims something else all the time would fill the memory."""
        desk = Desk()
        made = Coverage(desk.fleet)
        for number in range(50):
            desk.node("a", "en", f"x{number}")
            desk.now += FRESH_S
            assert [one.tgt for one in made.pairs(desk.now)] == [f"x{number}", "en"]
            (survey,) = made._surveys.values()
            assert len(survey._tallies) <= 6
            assert len(survey._reports) <= 1

    def test_surveys_for_strange_wishes_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(coverage, "MAX_SURVEYS", 3)
        desk = Desk()
        made = Coverage(desk.fleet)
        for number in range(10):
            asked = request(node_id=f"n{number}")
            assert made.problem(asked, desk.dispatch.key_of(asked), desk.now) is not None
        assert len(made._surveys) == 3


def both_ways_of(one: str, other: str, ready_nodes: int, free_slots: int) -> list[Served]:
    """What nodes for two languages make up."""
    return [Served(one, other, ready_nodes, free_slots), Served(other, one, ready_nodes, free_slots)]
