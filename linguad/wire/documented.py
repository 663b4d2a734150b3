"""Node messages that only the documentation has, as the messages they stand for (node-protocol D36, 7)."""

from __future__ import annotations

from typing import TypeVar

from msgspec.structs import replace

from linguad.errors import ErrorCode
from linguad.wire.node import (
    CapabilityByType,
    Heartbeat,
    JobError,
    JobResult,
    ModelNotAvailable,
    NodeHeartbeat,
    NodeLanguageCapabilities,
    NodeRegister,
    Register,
)

M = TypeVar("M", Register, Heartbeat)


def names_services(message: NodeRegister | NodeHeartbeat) -> bool:
    """Whether a node lists its services or types of service, be it that it has none."""
    return message.installed_services is not None or message.capability_by_type is not None


def spelled_out(message: M, *, by_language: bool) -> M:
    """The message with all that its language lists imply.

    With `by_language` they stand for services. That the semantic list says whether semantic repair is ready
    makes it a node of the current generation (node-protocol 2.14).
    """
    languages = message.language_capabilities
    if languages is None:
        return message
    if languages.semantic_core_ready is None:
        languages = replace(languages, semantic_core_ready=bool(languages.semantic_languages))
    if by_language:
        message = replace(message, capability_by_type=_services_for(languages))
    return replace(message, language_capabilities=languages)


def failure(message: ModelNotAvailable, node_id: str) -> JobResult:
    """The result that says the same of the job that is named."""
    details = {
        "service_id": missing_service(message),
        "service_version": message.service_version or message.version,
        "reason": message.reason,
    }
    error = JobError(
        code=ErrorCode.MODEL_NOT_AVAILABLE,
        message=message.reason or "",
        details={name: value for name, value in details.items() if value},
    )
    return JobResult(job_id=message.job_id or "", node_id=node_id, success=False, error=error)


def missing_service(message: ModelNotAvailable) -> str | None:
    """The service or model that is named; None if there is none."""
    return message.service_id or message.model_id or None


def _services_for(languages: NodeLanguageCapabilities) -> list[CapabilityByType]:
    """The types of service without which nobody could list such languages."""
    lists = {
        "asr": languages.asr_languages,
        "tts": languages.tts_languages,
        "semantic": languages.semantic_languages,
    }
    kinds = ["nmt", *(kind for kind, listed in lists.items() if listed)]
    return [CapabilityByType(type=kind, ready=True) for kind in kinds]
