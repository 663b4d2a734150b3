"""What the documented messages stand for, member by member."""

from __future__ import annotations

import json
from typing import Any

import pytest

from linguad.wire import codec, documented
from linguad.wire.node import (
    CapabilityByType,
    Heartbeat,
    InstalledService,
    JobError,
    JobResult,
    ModelNotAvailable,
    NodeHeartbeat,
    NodeLanguageCapabilities,
    NodeRegister,
    Register,
)


def ready(*kinds: str) -> list[CapabilityByType]:
    return [CapabilityByType(type=kind, ready=True) for kind in kinds]


@pytest.mark.parametrize(
    ("languages", "kinds"),
    [
        (
            {"asr_languages": ["zh"], "semantic_languages": ["zh"], "tts_languages": ["en"]},
            "nmt asr tts semantic",
        ),
        ({"asr_languages": ["zh"], "semantic_languages": [], "tts_languages": ["en"]}, "nmt asr tts"),
        ({"asr_languages": ["zh"]}, "nmt asr"),
        ({"asr_languages": [], "tts_languages": ["en"]}, "nmt tts"),
        ({}, "nmt"),
    ],
)
def test_language_lists_stand_for_services(languages: dict[str, Any], kinds: str) -> None:
    for made in (Register, Heartbeat):
        message = made(node_id="n", language_capabilities=NodeLanguageCapabilities(**languages))
        whole = documented.spelled_out(message, by_language=True)
        assert isinstance(whole, made)
        assert whole.capability_by_type == ready(*kinds.split())


def test_services_that_are_named_stand_for_themselves() -> None:
    services = [InstalledService(service_id="a", type="asr")]
    message = Register(installed_services=services, language_capabilities=NodeLanguageCapabilities())
    assert documented.names_services(message)
    whole = documented.spelled_out(message, by_language=False)
    assert (whole.installed_services, whole.capability_by_type) == (services, None)


@pytest.mark.parametrize("said", [{"installed_services": []}, {"capability_by_type": []}])
def test_to_name_none_is_to_name_them(said: dict[str, Any]) -> None:
    assert documented.names_services(NodeRegister(**said))
    assert not documented.names_services(NodeHeartbeat(node_id="n"))


@pytest.mark.parametrize(("semantic", "core"), [(["zh"], True), ([], False), (None, False)])
def test_it_is_a_node_of_the_current_generation(semantic: list[str] | None, core: bool) -> None:
    message = Register(language_capabilities=NodeLanguageCapabilities(semantic_languages=semantic))
    languages = documented.spelled_out(message, by_language=True).language_capabilities
    assert languages == NodeLanguageCapabilities(semantic_languages=semantic, semantic_core_ready=core)


def test_what_a_node_says_of_semantic_repair_stays() -> None:
    said = NodeLanguageCapabilities(semantic_languages=["zh"], semantic_core_ready=False)
    message = Heartbeat(node_id="n", language_capabilities=said)
    assert documented.spelled_out(message, by_language=False).language_capabilities == said


def test_without_languages_nothing_is_added() -> None:
    message = Heartbeat(node_id="n")
    assert documented.spelled_out(message, by_language=True) == message


@pytest.mark.parametrize(
    ("members", "details"),
    [
        ({"service_id": "a", "service_version": "1"}, {"service_id": "a", "service_version": "1"}),
        ({"model_id": "m", "version": "2"}, {"service_id": "m", "service_version": "2"}),
        ({"service_id": "a", "model_id": "m"}, {"service_id": "a"}),
        ({"service_id": "", "model_id": "m"}, {"service_id": "m"}),
        ({"reason": "verifying"}, {"reason": "verifying"}),
    ],
)
def test_a_missing_model_is_a_failed_job(members: dict[str, Any], details: dict[str, str]) -> None:
    message = ModelNotAvailable(job_id="job-1", node_id="another", **members)
    assert documented.failure(message, "node-1") == JobResult(
        job_id="job-1",
        node_id="node-1",
        success=False,
        error=JobError(code="MODEL_NOT_AVAILABLE", message=members.get("reason", ""), details=details),
    )
    assert documented.missing_service(message) == details.get("service_id")


@pytest.mark.parametrize(("alias", "kind"), [("register", NodeRegister), ("heartbeat", NodeHeartbeat)])
def test_aliases_have_every_member_of_the_message_they_stand_for(alias: str, kind: type[Any]) -> None:
    name = f"node_{alias}"
    text = json.dumps({"type": name, "node_id": "n", "max_concurrent_jobs": 3, "language_capabilities": {}})
    message = codec.node_messages.decode(text.replace(name, alias))
    assert isinstance(message, kind)
    assert codec.encode(message) == codec.encode(codec.node_messages.decode(text)).replace(name, alias)
