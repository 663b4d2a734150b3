"""Who does the work of a node, as the agent sees it: what it offers, and what came of a job."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from linguad.errors import ErrorCode, LinguadError
from linguad.wire.common import ExtraResult
from linguad.wire.node import (
    CapabilityByType,
    InstalledModel,
    InstalledService,
    JobAssign,
    LanguagePair,
    NmtCapability,
    NodeLanguageCapabilities,
)
from linguad.worker.engines.base import Kind, Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One engine as the scheduler sees it."""

    service_id: str
    kind: Kind
    device: str = "cpu"
    version: str = ""
    languages: list[str] = field(default_factory=list)
    """What an ASR or TTS service serves."""
    pairs: list[Pair] = field(default_factory=list)
    """What a translation service serves."""
    running: bool = True
    model_id: str | None = None
    """The model it works with, if it is one of the hub."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What registration and heartbeats say about the services of a node (node-protocol 2.12)."""

    services: list[InstalledService]
    capabilities: list[CapabilityByType]
    languages: NodeLanguageCapabilities
    models: list[InstalledModel] = field(default_factory=list)
    """Models of the hub on the node's disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a job; None where its pipeline did not ask for a stage."""

    text_asr: str | None = None
    text_translated: str | None = None
    tts_audio: str | None = None
    """Base64."""
    tts_format: str | None = None
    extra: ExtraResult


class JobFailed(LinguadError):
    """A job cannot be done here; `code` and `details` go into the result's error (node-protocol 8)."""

    def __init__(self, code: ErrorCode, message: str, details: dict[str, str] | None = None) -> None:
        self.code = code
        self.details = details
        super().__init__(message)


class Runner(Protocol):
    """Does jobs; many at once, if the agent is told so."""

    def offer(self) -> Offer:
        """What can be done at this moment."""
        ...

    async def run(self, job: JobAssign) -> Outcome:
        """Do one job. Raises JobFailed."""
        ...


def offer(services: Iterable[Service]) -> Offer:
    """The wire form of some services: languages count only where the service runs."""
    known = list(services)
    running = [service for service in known if service.running]
    kinds = sorted({service.kind for service in known})
    return Offer(
        services=[
            InstalledService(
                service_id=service.service_id,
                type=service.kind,
                device=service.device,
                status="running" if service.running else "error",
                version=service.version or None,
                model_id=service.model_id,
            )
            for service in known
        ],
        capabilities=[_capability(kind, known) for kind in kinds],
        languages=NodeLanguageCapabilities(
            asr_languages=_languages(running, Kind.ASR),
            tts_languages=_languages(running, Kind.TTS),
            semantic_languages=[],
            semantic_core_ready=False,
            nmt_capabilities=[_rule(service) for service in running if service.kind == Kind.NMT],
        ),
    )


def pairs_served(given: Offer) -> list[str]:
    """The pairs, as `en>es`, that all three stages of an offer serve."""
    heard, spoken = given.languages.asr_languages or [], given.languages.tts_languages or []
    return [
        f"{pair.src}>{pair.tgt}"
        for rule in given.languages.nmt_capabilities or []
        for pair in rule.supported_pairs or []
        if pair.src in heard and pair.tgt in spoken
    ]


def _capability(kind: Kind, services: Iterable[Service]) -> CapabilityByType:
    mine = [service for service in services if service.kind == kind]
    return CapabilityByType(
        type=kind,
        ready=any(service.running for service in mine),
        devices=sorted({service.device for service in mine}),
    )


def _languages(services: Iterable[Service], kind: Kind) -> list[str]:
    return sorted({code for service in services if service.kind == kind for code in service.languages})


def _rule(service: Service) -> NmtCapability:
    return NmtCapability(
        model_id=service.service_id,
        languages=sorted({code for pair in service.pairs for code in pair}),
        rule="specific_pairs",
        supported_pairs=[LanguagePair(src=source, tgt=target) for source, target in service.pairs],
    )
