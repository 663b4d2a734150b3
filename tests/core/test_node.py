"""One node: its languages (node-protocol 5.2, 2.12), services, generation (2.14) and status (3.4)."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
from core.support import heartbeat, languages, register, services
from hypothesis import given
from hypothesis import strategies as st

from linguad.core.health import Status
from linguad.core.key import Key
from linguad.core.languages import MAX_LANGUAGES, Languages
from linguad.core.node import Node
from linguad.core.rules import NodeRules
from linguad.core.services import CORE_SERVICES, Services
from linguad.wire.common import PipelineConfig
from linguad.wire.node import (
    CapabilityByType,
    GpuInfo,
    HardwareInfo,
    InstalledService,
    LanguagePair,
    NmtCapability,
    NodeLanguageCapabilities,
    Register,
    ResourceUsage,
)
from linguad.wire.override import Override

SPEAK = CORE_SERVICES
WRITE = Services.ASR | Services.NMT
HEAR = Services.ASR


def pairs(*texts: str) -> list[LanguagePair]:
    return [LanguagePair(src=src, tgt=tgt) for src, _, tgt in (text.partition(">") for text in texts)]


def rule(kind: str, *codes: str, **members: Any) -> NmtCapability:
    return NmtCapability(model_id="m", rule=kind, languages=list(codes), **members)


def served(offer: NodeLanguageCapabilities, needs: Services, codes: str = "en zh ja de *") -> set[str]:
    """Every key the offer serves, written `en>zh`."""
    found, known = Languages(offer), codes.split()
    return {f"{src}>{tgt}" for src in known for tgt in known if tgt != "*" and found.serve(src, tgt, needs)}


class TestLanguages:
    """The case table of node-protocol 5.2."""

    def test_case_1_reported_pairs_are_exactly_those(self) -> None:
        offer = languages(
            "en",
            "zh",
            supported_language_pairs=pairs("en>zh", "zh>ja"),
            nmt_capabilities=[rule("any_to_any")],
        )
        for needs in (SPEAK, WRITE):
            assert served(offer, needs) == {"en>zh", "zh>ja", "*>zh", "*>ja"}

    def test_case_1_an_empty_list_of_pairs_is_none(self) -> None:
        offer = languages("en", "zh", supported_language_pairs=[])
        assert served(offer, SPEAK) == set()
        assert not Languages(offer).any

    def test_case_1_identity_and_auto_are_no_pairs(self) -> None:
        offer = languages("en", "zh", supported_language_pairs=pairs("en>en", "auto>zh", "en>auto"))
        assert served(offer, SPEAK, "en zh auto *") == set()
        assert not Languages(offer).any

    def test_case_2_rules_between_ears_and_voice(self) -> None:
        offer = NodeLanguageCapabilities(
            asr_languages=["en", "zh", "ja"],
            tts_languages=["en", "de"],
            nmt_capabilities=[rule("any_to_any", "en", "zh", "de")],
        )
        assert served(offer, SPEAK) == {"en>de", "zh>en", "zh>de", "*>en", "*>de"}

    def test_case_2_without_speech_the_rules_alone_tell_the_targets(self) -> None:
        offer = NodeLanguageCapabilities(
            asr_languages=["en", "ja"],
            tts_languages=[],
            nmt_capabilities=[rule("any_to_any", "en", "zh", "de")],
        )
        assert served(offer, SPEAK) == set()
        assert served(offer, WRITE) == {"en>zh", "en>de", "*>zh", "*>de"}
        assert Languages(offer).any

    def test_case_2_semantic_languages_gate_the_source(self) -> None:
        """Resolution 37: only the source, only in this case."""
        offer = languages(
            "en",
            "zh",
            "ja",
            semantic_languages=["zh"],
            nmt_capabilities=[rule("any_to_any", "en", "zh", "ja")],
        )
        assert served(offer, SPEAK) == {"zh>en", "zh>ja", "*>en", "*>ja"}
        ungated = languages(
            "en", "zh", semantic_languages=[], nmt_capabilities=[rule("any_to_any", "en", "zh")]
        )
        assert served(ungated, SPEAK) == {"en>zh", "zh>en", "*>en", "*>zh"}

    def test_case_3_everything_between_ears_and_voice(self) -> None:
        offer = NodeLanguageCapabilities(
            asr_languages=["en", "zh"], tts_languages=["zh", "ja"], semantic_languages=["zh"]
        )
        for needs in (SPEAK, WRITE):
            assert served(offer, needs) == {"en>zh", "en>ja", "zh>ja", "*>zh", "*>ja"}

    def test_without_translation_only_the_source_counts(self) -> None:
        offer = NodeLanguageCapabilities(asr_languages=["en"], tts_languages=[])
        assert Languages(offer).serve("en", "*", HEAR)
        assert Languages(offer).serve("*", "*", HEAR)
        assert not Languages(offer).serve("zh", "*", HEAR)

    def test_codes_are_normalised(self) -> None:
        offer = NodeLanguageCapabilities(asr_languages=["ZH-CN", "auto", ""], tts_languages=["en-US", " iw "])
        assert served(offer, SPEAK, "zh en he auto *") == {"zh>en", "zh>he", "*>en", "*>he"}
        listed = NodeLanguageCapabilities(supported_language_pairs=pairs("zh-TW>en-GB"))
        assert served(listed, SPEAK) == {"zh>en", "*>en"}

    def test_nothing_reported_is_nothing_served(self) -> None:
        assert served(NodeLanguageCapabilities(), SPEAK) == set()
        assert not Languages(NodeLanguageCapabilities()).any

    def test_one_language_alone_is_no_pair(self) -> None:
        assert served(languages("en"), SPEAK) == set()
        assert not Languages(languages("en")).any

    @pytest.mark.parametrize(
        ("capability", "allowed"),
        [
            (rule("any_to_any", "en", "zh", "ja"), "en>zh en>ja zh>en zh>ja ja>en ja>zh"),
            (rule("any_to_any", "en", "zh", blocked_pairs=pairs("en>zh")), "zh>en"),
            (rule("any_to_en", "zh", "ja"), "zh>en ja>en"),
            (rule("any_to_en", "zh", "en", blocked_pairs=pairs("ZH-CN>en")), ""),
            (rule("en_to_any", "zh", "ja", "en"), "en>zh en>ja"),
            (rule("specific_pairs", "en", supported_pairs=pairs("zh>ja", "de>de", "ja>en")), "zh>ja ja>en"),
            (rule("specific_pairs", supported_pairs=pairs("zh>ja"), blocked_pairs=pairs("zh>ja")), ""),
            (rule("specific_pairs", "en", "zh"), ""),
            (rule("any_to_all", "en", "zh"), ""),
            (NmtCapability(), ""),
        ],
    )
    def test_rule(self, capability: NmtCapability, allowed: str) -> None:
        """The table of node-protocol 2.12, spoken or written."""
        offer = languages("en", "zh", "ja", "de", nmt_capabilities=[capability])
        wanted = set(allowed.split())
        wanted |= {"*>" + pair.partition(">")[2] for pair in wanted}
        assert served(offer, SPEAK) == served(offer, WRITE) == wanted

    def test_any_rule_will_do(self) -> None:
        offer = languages(
            "en", "zh", "ja", nmt_capabilities=[rule("any_to_en", "zh"), rule("en_to_any", "ja")]
        )
        assert served(offer, SPEAK) == {"zh>en", "en>ja", "*>en", "*>ja"}

    def test_acceptance_counts(self) -> None:
        """Resolution 37: pools-and-cluster 12 item 3 without identity pairs."""
        both = served(languages("zh", "en"), SPEAK)
        assert both == {"zh>en", "en>zh", "*>en", "*>zh"}
        dropped = languages("zh", "en", tts_languages=["zh"])
        assert served(dropped, SPEAK) == {"en>zh", "*>zh"}

    def test_a_hostile_offer_costs_no_squares(self) -> None:
        """No pair at all among very many languages: a search that tries them all takes hours."""
        many = [f"x{number}" for number in range(20_000)]
        other = [f"y{number}" for number in range(20_000)]
        offer = NodeLanguageCapabilities(
            asr_languages=many, tts_languages=other, nmt_capabilities=[rule("any_to_any", *many)] * 1_000
        )
        found = Languages(offer)
        assert len(found.asr) == MAX_LANGUAGES
        assert not found.serve("*", "y1", SPEAK)
        assert list(found.pairs(SPEAK)) == []
        assert len(list(islice(found.pairs(WRITE), 10_000))) == 10_000


codes = st.lists(st.sampled_from(["en", "zh", "ja", "de"]), max_size=4)
reported_pairs = st.lists(
    st.builds(LanguagePair, src=st.sampled_from(["en", "zh", "ja"]), tgt=st.sampled_from(["en", "zh", "ja"])),
    max_size=4,
)
offers = st.builds(
    NodeLanguageCapabilities,
    asr_languages=st.none() | codes,
    tts_languages=st.none() | codes,
    semantic_languages=st.none() | codes,
    nmt_capabilities=st.none()
    | st.lists(
        st.builds(
            NmtCapability,
            rule=st.sampled_from(["any_to_any", "any_to_en", "en_to_any", "specific_pairs", "?"]),
            languages=codes,
            blocked_pairs=reported_pairs,
            supported_pairs=reported_pairs,
        ),
        max_size=3,
    ),
    supported_language_pairs=st.none() | reported_pairs,
)


def naive(offer: NodeLanguageCapabilities, src: str, tgt: str, speaks: bool) -> bool:
    """Node-protocol 5.2 and 2.12, read aloud."""
    if src == tgt:
        return False
    if offer.supported_language_pairs is not None:
        return any((pair.src, pair.tgt) == (src, tgt) for pair in offer.supported_language_pairs)
    if src not in (offer.asr_languages or ()):
        return False
    if offer.nmt_capabilities is None:
        return tgt in (offer.tts_languages or ())
    if offer.semantic_languages and src not in offer.semantic_languages:
        return False
    if speaks and tgt not in (offer.tts_languages or ()):
        return False
    for capability in offer.nmt_capabilities:
        known = capability.languages or ()
        if any((pair.src, pair.tgt) == (src, tgt) for pair in capability.blocked_pairs or ()):
            continue
        if {
            "any_to_any": src in known and tgt in known,
            "any_to_en": tgt == "en" and src in known,
            "en_to_any": src == "en" and tgt in known,
            "specific_pairs": any((p.src, p.tgt) == (src, tgt) for p in capability.supported_pairs or ()),
        }.get(capability.rule, False):
            return True
    return False


@given(offers)
def test_any_offer_serves_what_the_table_says(offer: NodeLanguageCapabilities) -> None:
    known = ["en", "zh", "ja", "de"]
    found = Languages(offer)
    usable = False
    for needs, speaks in ((SPEAK, True), (WRITE, False), (SPEAK | Services.SEMANTIC, True)):
        for tgt in known:
            answers = {src: naive(offer, src, tgt, speaks) for src in known}
            assert {src: found.serve(src, tgt, needs) for src in known} == answers
            assert found.serve("*", tgt, needs) == any(answers.values())
            usable |= any(answers.values())
        listed = set(found.pairs(needs))
        assert listed == {(src, tgt) for src in known for tgt in known if found.serve(src, tgt, needs)}
        assert len(listed) <= found.most_pairs
    assert found.any == usable
    assert set(found.pairs(HEAR)) == {(src, "*") for src in known if found.serve(src, "*", HEAR)}


@given(offers, offers)
def test_digests_are_alike_only_for_equal_reports(
    one: NodeLanguageCapabilities, other: NodeLanguageCapabilities
) -> None:
    assert (Languages(one).digest == Languages(other).digest) == (one == other)


class TestServices:
    @pytest.mark.parametrize(
        ("pipeline", "needs"),
        [
            (PipelineConfig(), Services.ASR | Services.NMT | Services.TTS),
            (PipelineConfig(use_tts=False), Services.ASR | Services.NMT),
            (PipelineConfig(use_tone=True), Services.ASR | Services.NMT | Services.TONE),
            (PipelineConfig(use_tts=False, use_tone=True), Services.ASR | Services.NMT | Services.TONE),
            (
                PipelineConfig(use_semantic=True, use_nmt=False, use_tts=False),
                Services.ASR | Services.SEMANTIC,
            ),
            (PipelineConfig(use_phonetic=True, use_lexicon=True, use_tts=False), Services.ASR | Services.NMT),
        ],
    )
    def test_needs_of_a_pipeline(self, pipeline: PipelineConfig, needs: Services) -> None:
        assert Services.needed(pipeline) == needs

    def node(self, **members: Any) -> Node:
        made = Node("a", members.pop("rules", NodeRules()), 0.0)
        made.registered(register("a", **members), 1, 0.0)
        return made

    def test_only_running_services_count(self) -> None:
        found = [*services("asr", "nmt"), *services("tts", status="stopped"), *services("rust", "NONE")]
        node = self.node(installed_services=found)
        assert node.services.running == Services.ASR | Services.NMT
        assert node.services.installed == CORE_SERVICES
        assert node.fits(Key("en", "es", WRITE))
        assert not node.fits(Key("en", "es", SPEAK))

    def test_one_running_service_of_a_type_is_enough(self) -> None:
        node = self.node(installed_services=[*services("asr", status="error"), *services("ASR")])
        assert node.services.running == Services.ASR

    def test_capabilities_count_only_for_types_without_services(self) -> None:
        by_type = [
            CapabilityByType(type=kind, ready=ready)
            for kind, ready in (("asr", True), ("nmt", True), ("tts", False))
        ]
        node = self.node(installed_services=services("asr", status="stopped"), capability_by_type=by_type)
        assert node.services.running == Services.NMT
        assert node.services.installed == CORE_SERVICES

    def test_a_heartbeat_replaces_the_services(self) -> None:
        node = self.node()
        node.heartbeat(heartbeat("a", installed_services=services("asr")), 1.0)
        assert node.services.running == Services.ASR
        node.heartbeat(heartbeat("a", installed_services=[]), 2.0)
        assert node.services.running == Services.NONE

    def test_a_heartbeat_that_says_nothing_keeps_them(self) -> None:
        node = self.node(max_concurrent_jobs=2)
        offer = node.offer
        node.heartbeat(heartbeat("a"), 1.0)
        assert node.offer == offer
        assert node.cap == 2

    @pytest.mark.parametrize(
        ("require_gpu", "gpus", "device", "counts"),
        [
            ("never", None, "cpu", True),
            ("never", None, "gpu", True),
            ("always", [GpuInfo()], "gpu", True),
            ("always", [GpuInfo()], "auto", True),
            ("always", [GpuInfo()], "cpu", False),
            ("always", None, "gpu", False),
        ],
    )
    def test_where_a_gpu_is_required_it_must_be_used(
        self, require_gpu: str, gpus: list[GpuInfo] | None, device: str, counts: bool
    ) -> None:
        found = [InstalledService(service_id="a", type="asr", device=device, status="running")]
        node = self.node(
            rules=NodeRules(require_gpu=require_gpu),
            hardware=HardwareInfo(gpus=gpus),
            installed_services=found,
        )
        assert bool(node.services.running) == counts

    def test_private_nodes_fit_nothing(self) -> None:
        """Only a paired session may use them (5.7)."""
        node = self.node(accept_public_jobs=False)
        assert not node.fits(Key("en", "es", SPEAK))
        assert node.fits(Key("en", "es", SPEAK, node="a"))
        assert not node.fits(Key("en", "es", SPEAK, node="b"))

    @pytest.mark.parametrize(
        ("offer", "oldest"),
        [
            (languages("en", semantic_core_ready=None), True),
            (languages("en", semantic_core_ready=None, nmt_capabilities=[]), True),
            (languages("en", semantic_core_ready=False), False),
            (languages("en"), False),
        ],
    )
    def test_generation(self, offer: NodeLanguageCapabilities, oldest: bool) -> None:
        assert self.node(language_capabilities=offer).oldest_generation is oldest


class TestStatus:
    """The table of node-protocol 3.4."""

    def node(self, *, beats: int = 0, rules: NodeRules | None = None, **members: Any) -> Node:
        made = Node("a", rules or NodeRules(), 0.0)
        made.registered(register("a", **members), 1, 0.0)
        for _ in range(beats):
            made.heartbeat(heartbeat("a"), 1.0)
        return made

    def sick(self) -> Any:
        return heartbeat("a", installed_services=services("asr", "nmt", "tts", status="error"))

    def test_registered_is_registering(self) -> None:
        assert self.node().status is Status.REGISTERING

    def test_registering_to_ready_by_a_healthy_heartbeat(self) -> None:
        assert self.node(beats=1).status is Status.READY

    def test_registering_to_ready_by_so_many_in_a_row(self) -> None:
        rules = NodeRules(health_check_count=2)
        node = self.node(rules=rules, beats=1)
        node.heartbeat(self.sick(), 2.0)
        node.heartbeat(heartbeat("a", installed_services=services("asr", "nmt", "tts")), 3.0)
        assert node.status is Status.REGISTERING
        node.heartbeat(heartbeat("a"), 4.0)
        assert node.status is Status.READY

    @pytest.mark.parametrize(
        ("members", "healthy"),
        [
            ({}, True),
            ({"installed_services": []}, False),
            ({"installed_services": services("semantic", "punctuation")}, False),
            ({"installed_services": services("asr", "nmt")}, True),
            ({"installed_services": [*services("asr", "nmt"), *services("tts", status="stopped")]}, False),
            (
                {"installed_services": [*services("asr", "nmt", "tts"), *services("tone", status="stopped")]},
                True,
            ),
            ({"language_capabilities": NodeLanguageCapabilities()}, False),
            ({"language_capabilities": languages("en")}, False),
        ],
    )
    def test_health_while_registering(self, members: dict[str, Any], healthy: bool) -> None:
        assert self.node(beats=1, **members).status is (Status.READY if healthy else Status.REGISTERING)

    @pytest.mark.parametrize(
        ("percent", "healthy"), [(0.0, True), (100.0, True), (101.0, False), (-1.0, False), (None, True)]
    )
    def test_gpu_percent_must_make_sense(self, percent: float | None, healthy: bool) -> None:
        node = self.node()
        node.heartbeat(heartbeat("a", resource_usage=ResourceUsage(gpu_percent=percent)), 1.0)
        assert (node.status is Status.READY) == healthy

    def test_subtitles_alone_are_work_enough(self) -> None:
        offer = NodeLanguageCapabilities(asr_languages=["en"], nmt_capabilities=[rule("en_to_any", "zh")])
        node = self.node(beats=1, installed_services=services("asr", "nmt"), language_capabilities=offer)
        assert node.status is Status.READY
        assert node.fits(Key("en", "zh", WRITE))

    def test_ready_stays_ready_while_anything_runs(self) -> None:
        node = self.node(beats=1)
        for _ in range(5):
            node.heartbeat(heartbeat("a", installed_services=services("nmt")), 2.0)
        assert node.status is Status.READY

    def test_ready_to_degraded_by_three_bad_heartbeats_in_a_row(self) -> None:
        node = self.node(beats=1)
        statuses = []
        for _ in range(3):
            node.heartbeat(self.sick(), 2.0)
            statuses.append(node.status)
        assert statuses == [Status.READY, Status.READY, Status.DEGRADED]

    def test_ready_to_degraded_by_three_of_the_last_five(self) -> None:
        node = self.node(beats=1)
        for bad in (True, False, True, False):
            node.health.job_failed(2.0, 2.0) if bad else node.health.job_answered()
        assert node.status is Status.READY
        node.health.job_failed(2.0, 2.0)
        assert node.status is Status.DEGRADED

    def test_old_failures_are_forgotten(self) -> None:
        node = self.node(beats=1)
        for bad in (True, True, False, False, False, True, True):
            node.health.job_failed(2.0, 2.0) if bad else node.health.job_answered()
        assert node.status is Status.READY

    def test_degraded_to_ready_by_the_first_healthy_heartbeat(self) -> None:
        node = self.node(beats=1)
        for _ in range(3):
            node.health.job_failed(2.0, 2.0)
        node.health.job_answered()
        assert node.status is Status.DEGRADED
        node.heartbeat(heartbeat("a"), 2.0)
        assert node.status is Status.READY
        node.health.job_answered()
        node.health.job_failed(2.0, 2.0)
        node.health.job_failed(2.0, 2.0)
        assert node.status is Status.READY, "the window was cleared"

    def test_registering_to_degraded_when_it_takes_too_long(self) -> None:
        node = self.node(installed_services=[])
        assert not node.warmed_up_too_long(60.0)
        assert node.warmed_up_too_long(60.1)
        assert not self.node(beats=1).warmed_up_too_long(1e9)

    def test_heartbeats_stop(self) -> None:
        node = self.node(beats=1)
        assert not node.overdue(46.0)
        assert node.overdue(46.1)
        node.lost()
        assert node.status is Status.OFFLINE
        assert not node.overdue(1e9)

    def test_nodes_written_after_the_documentation_may_report_every_minute(self) -> None:
        node = Node("a", NodeRules(), 0.0)
        node.registered(Register(language_capabilities=languages("en", "es")), 1, 0.0)
        assert not node.overdue(180.0)
        assert node.overdue(180.1)

    def test_offline_to_registering_by_a_new_registration(self) -> None:
        node = self.node(beats=1)
        node.lost()
        node.health.job_failed(2.0, 2.0)
        assert node.status is Status.OFFLINE
        node.registered(register("a"), 2, 10.0)
        assert node.status is Status.REGISTERING
        assert (node.connection, node.last_heartbeat_at) == (2, 10.0)

    def test_registering_again_has_to_show_health_again(self) -> None:
        node = self.node(beats=1)
        node.registered(register("a"), 1, 10.0)
        assert node.status is Status.REGISTERING

    def test_draining_is_not_ended_by_health(self) -> None:
        node = self.node(beats=1)
        node.override = Override(drain=True)
        node.heartbeat(heartbeat("a"), 2.0)
        for _ in range(5):
            node.health.job_failed(2.0, 2.0)
        assert node.status is Status.DRAINING
