"""The services of one node: which types can be used, less those it said it lacks (node-protocol 5.2, 7)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, IntFlag, StrEnum
from functools import cache
from typing import NamedTuple

from msgspec import Struct

from linguad.wire.common import PipelineConfig
from linguad.wire.node import CapabilityByType, InstalledService


class Services(IntFlag):
    """Service types a job can need; anything else a node reports is ignored for selection."""

    NONE = 0
    ASR = 1
    NMT = 2
    TTS = 4
    TONE = 8
    SEMANTIC = 16

    @classmethod
    @cache
    def needed(cls, pipeline: PipelineConfig) -> Services:
        """What a pipeline needs; a cloned voice takes the place of plain speech (node-protocol 5.2)."""
        needed = cls.NONE
        if pipeline.use_asr:
            needed |= cls.ASR
        if pipeline.use_nmt:
            needed |= cls.NMT
        if pipeline.use_tone:
            needed |= cls.TONE
        elif pipeline.use_tts:
            needed |= cls.TTS
        if pipeline.use_semantic:
            needed |= cls.SEMANTIC
        return needed

    @classmethod
    def of(cls, names: Iterable[str]) -> Services:
        """The types of these names of the wire; unknown ones raise KeyError."""
        found = cls.NONE
        for name in names:
            found |= _BY_NAME[name.lower()]
        return found

    @property
    def names(self) -> list[str]:
        """The types as the wire writes them."""
        return [str(kind.name).lower() for kind in Services if kind & self]


class WhyNot(StrEnum):
    """Documented reasons why a node cannot do a type of service."""

    NO_IMPL = "no_impl"
    NO_RUNNING_IMPL = "no_running_impl"
    ONLY_CPU_RUNNING = "only_cpu_running"
    GPU_IMPL_NOT_RUNNING = "gpu_impl_not_running"
    MISSING_CAPABILITY_ENTRY = "missing_capability_entry"


class Mark(Enum):
    """What is made of a node's word that it lacks a service."""

    HOLDS = "holds"
    TOO_MANY = "too_many"
    """It reports faster than is believed."""
    UNKNOWN = "unknown"
    """It reports no such service as running."""


CORE_SERVICES = Services.ASR | Services.NMT | Services.TTS
_DOCUMENTED = frozenset(WhyNot)
_BY_NAME = {service.name.lower(): service for service in Services if service.name}


class MarkRules(Struct, frozen=True, kw_only=True):
    """Reports of missing models: how long they hold, and how many of one node count in a window."""

    ttl_s: float = 60.0
    window_s: float = 10.0
    max_reports: int = 30


class Listed(NamedTuple):
    """A service as the node itself lists it."""

    service_id: str
    service_type: str
    status: str


class ServiceTable:
    """Mutable state: the services last reported, and the running ones marked as unavailable."""

    def __init__(self, rules: MarkRules) -> None:
        self.running = Services.NONE
        """Types that can be used now."""
        self.installed = Services.NONE
        """Types that are there, running or not."""
        self.listed: tuple[Listed, ...] = ()
        """The services by the node's own words."""
        self._rules = rules
        self._types_of: dict[str, Services] = {}
        self._by_capability = Services.NONE
        self._on_cpu = self._on_gpu = Services.NONE
        self._own_reasons: dict[Services, WhyNot | None] = {}
        self._marked: set[str] = set()
        self._reports: deque[float] = deque(maxlen=rules.max_reports)

    @property
    def marked(self) -> list[str]:
        """Services the node said it lacks, while that holds."""
        return sorted(self._marked)

    @property
    def running_ids(self) -> Mapping[str, Services]:
        """The running services by id, each with its types."""
        return self._types_of

    def update(
        self,
        services: Iterable[InstalledService] | None,
        by_type: Iterable[CapabilityByType] | None,
        device_counts: Callable[[str], bool],
    ) -> None:
        """Replace what is known; a service that runs again is no longer marked (node-protocol 7)."""
        running: dict[str, Services] = {}
        installed = by_capability = on_cpu = on_gpu = Services.NONE
        own_reasons: dict[Services, WhyNot | None] = {}
        for service in services or ():
            kind = _BY_NAME.get(service.type.lower(), Services.NONE)
            installed |= kind
            on_gpu |= kind if service.device == "gpu" else Services.NONE
            if service.status != "running":
                continue
            if device_counts(service.device):
                running[service.service_id] = running.get(service.service_id, Services.NONE) | kind
            else:
                on_cpu |= kind
        for capability in by_type or ():
            kind = _BY_NAME.get(capability.type.lower(), Services.NONE)
            own_reasons[kind] = WhyNot(capability.reason) if capability.reason in _DOCUMENTED else None
            if kind and not installed & kind:
                installed |= kind
                if capability.ready and device_counts("gpu"):
                    by_capability |= kind
                elif capability.ready:
                    on_cpu |= kind
        self._marked &= self._types_of.keys() & running.keys()
        self._on_cpu, self._on_gpu, self._own_reasons = on_cpu, on_gpu, own_reasons
        self._types_of, self._by_capability, self.installed = running, by_capability, installed
        self.listed = tuple(Listed(one.service_id, one.type, one.status) for one in services or ())
        self._count()

    def ready_ids(self, kind: Services) -> list[str]:
        """The running services of a type, but for those the node said it lacks."""
        return [name for name, types in self._types_of.items() if types & kind and name not in self._marked]

    def why_not(self, kind: Services) -> WhyNot:
        """Why a type that is not running is not; the node's own reason goes before what we see."""
        if reason := self._own_reasons.get(kind):
            return reason
        if not self.installed & kind:
            no_entry = self._own_reasons and kind not in self._own_reasons
            return WhyNot.MISSING_CAPABILITY_ENTRY if no_entry else WhyNot.NO_IMPL
        if self._on_cpu & kind:
            return WhyNot.GPU_IMPL_NOT_RUNNING if self._on_gpu & kind else WhyNot.ONLY_CPU_RUNNING
        return WhyNot.NO_RUNNING_IMPL

    def mark(self, service_id: str, now: float) -> Mark:
        """The node lacks this service although it reports it as running."""
        full = len(self._reports) == self._rules.max_reports
        if full and now - self._reports[0] < self._rules.window_s:
            return Mark.TOO_MANY
        self._reports.append(now)
        if service_id not in self._types_of:
            return Mark.UNKNOWN
        self._marked.add(service_id)
        self._count()
        return Mark.HOLDS

    def clear(self, service_id: str) -> None:
        """The mark has held long enough."""
        self._marked.discard(service_id)
        self._count()

    def clear_all(self) -> None:
        """The node registered anew."""
        self._marked.clear()
        self._count()

    def _count(self) -> None:
        self.running = self._by_capability
        for service_id, kind in self._types_of.items():
            if service_id not in self._marked:
                self.running |= kind
