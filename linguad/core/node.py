"""One node: what it offers, whether it may work, and how it is doing (node-protocol 2.12, 3, 5.2)."""

from __future__ import annotations

from collections import Counter, deque
from enum import Enum
from typing import NamedTuple

from msgspec import Struct

from linguad.core.services import CORE_SERVICES, MarkRules, Services, ServiceTable
from linguad.wire.language import AUTO, normalize
from linguad.wire.node import (
    HardwareInfo,
    LanguagePair,
    NmtCapability,
    NodeHeartbeat,
    NodeLanguageCapabilities,
    NodeRegister,
    ResourceUsage,
)

ANY = "*"
"""Source or target of an index key that is not asked for."""

MAX_LANGUAGES = 2_000
"""Codes of one list that are believed; the largest models of today know 1 100. Bounds the work for a node."""

MAX_PAIRS = 10_000
"""Language pairs believed of one node: a hundred languages each into each."""

MAX_RULE_PAIRS = 1_000
"""Pairs believed of one translation rule; a hundred rules then take a tenth of a second to read."""

MAX_RULES = 100
"""Translation rules of one node that are believed."""


class Key(NamedTuple):
    """What a job asks of a node: an index key of the fleet (resolution 33)."""

    src: str
    tgt: str
    needs: Services
    two_way: bool = False


class Status(Enum):
    """Authority is the scheduler; only READY nodes get work (node-protocol 3.4)."""

    REGISTERING = "registering"
    READY = "ready"
    DEGRADED = "degraded"
    DRAINING = "draining"
    OFFLINE = "offline"


class NodeRules(Struct, frozen=True, kw_only=True):
    """Health of nodes; seconds and counts (node-protocol 9)."""

    heartbeat_timeout_s: float = 45.0
    warmup_timeout_s: float = 60.0
    health_check_count: int = 1
    failure_window: int = 5
    failure_count: int = 3
    consecutive_failure_count: int = 3
    require_gpu: str = "never"
    max_concurrent_jobs: int = 4
    record_retention_s: float = 300.0
    marks: MarkRules = MarkRules()
    max_nodes: int = 100_000
    resource_threshold: float = 95.0


class Node:
    """Record of one node; mutable, owned by the fleet."""

    def __init__(self, node_id: str, rules: NodeRules, now: float) -> None:
        self.id = node_id
        self.rules = rules
        self.status = Status.REGISTERING
        self.connection = 0
        """Generation of the connection that owns the record; 0 while offline."""
        self.registered_at = now
        self.last_heartbeat_at = now
        self.last_answer_at = now
        """When the node last answered any job."""
        self.platform = ""
        self.hardware = HardwareInfo()
        self.accepts_public = True
        self.cap = rules.max_concurrent_jobs
        self.usage = ResourceUsage()
        self.services = ServiceTable(rules.marks)
        self.languages = Languages(NodeLanguageCapabilities())
        self.no_work: Counter[str] = Counter()
        """How often the node was passed over, by the reason, when jobs found no node at all."""
        self._reported_languages = NodeLanguageCapabilities()
        self._healthy_in_a_row = 0
        self._outcomes: deque[bool] = deque(maxlen=rules.failure_window)

    @property
    def offer(self) -> tuple[object, ...]:
        """All that decides which index keys the node fits; equal offers need no re-indexing."""
        return self.accepts_public, self.services.running, self._reported_languages

    @property
    def oldest_generation(self) -> bool:
        """Whether the node is of the generation with its own slice flags (node-protocol 2.14)."""
        return self._reported_languages.semantic_core_ready is None

    @property
    def has_gpu(self) -> bool:
        """Whether the registration listed at least one GPU."""
        return bool(self.hardware.gpus)

    @property
    def online(self) -> bool:
        """Whether a connection owns the record."""
        return self.status is not Status.OFFLINE

    def registered(self, message: NodeRegister, connection: int, now: float) -> None:
        """Take over a registration; the node has to show its health again."""
        self.connection = connection
        self.status = Status.REGISTERING
        self.registered_at = self.last_heartbeat_at = now
        self._healthy_in_a_row = 0
        self._outcomes.clear()
        self.services.clear_all()
        self.platform = message.platform or ""
        self.hardware = message.hardware or HardwareInfo()
        self.accepts_public = message.accept_public_jobs is not False
        self._describe(message)

    def heartbeat(self, message: NodeHeartbeat, now: float) -> None:
        """Replace what the node says of itself and judge its health (node-protocol 4)."""
        self.last_heartbeat_at = now
        if message.resource_usage is not None:
            self.usage = message.resource_usage
        self._describe(message)
        self._judge(self._healthy())

    def job_failed(self) -> None:
        """An attempt failed through the node's fault."""
        self._judge(False)

    def job_done(self) -> None:
        """An attempt brought a usable answer."""
        if self.status is Status.READY:
            self._outcomes.append(True)

    def lost(self) -> None:
        """The connection is gone; the node tells anew what it offers when it comes back."""
        self.status = Status.OFFLINE
        self.connection = 0
        self._reported_languages = NodeLanguageCapabilities()
        self.languages = Languages(self._reported_languages)
        self.services = ServiceTable(self.rules.marks)

    def overdue(self, now: float) -> bool:
        """Whether heartbeats stopped."""
        return self.online and now - self.last_heartbeat_at > self.rules.heartbeat_timeout_s

    def warmed_up_too_long(self, now: float) -> bool:
        """Whether a registering node took longer than it may to become healthy."""
        return self.status is Status.REGISTERING and now - self.registered_at > self.rules.warmup_timeout_s

    def fits(self, src: str, tgt: str, needs: Services) -> bool:
        """Whether the node can do such jobs at all: services running and languages (node-protocol 5.2)."""
        return (
            self.accepts_public
            and needs & ~self.services.running == 0
            and self.languages.serve(src, tgt, needs)
        )

    def _describe(self, message: NodeRegister | NodeHeartbeat) -> None:
        reported = message.language_capabilities
        if reported is not None and reported != self._reported_languages:
            self._reported_languages = reported
            self.languages = Languages(reported)
        if message.max_concurrent_jobs is not None:
            self.cap = message.max_concurrent_jobs
        if message.installed_services is not None or message.capability_by_type is not None:
            self.services.update(message.installed_services, message.capability_by_type, self._device_counts)

    def _device_counts(self, device: str) -> bool:
        return self.rules.require_gpu == "never" or (device in ("gpu", "auto") and self.has_gpu)

    def _healthy(self) -> bool:
        if self.rules.require_gpu == "always" and not self.has_gpu:
            return False
        if self.usage.gpu_percent is not None and not 0 <= self.usage.gpu_percent <= 100:
            return False
        if not self.languages.any:
            return False
        if self.status is not Status.REGISTERING:
            return bool(self.services.running)
        core = self.services.installed & CORE_SERVICES
        return bool(core) and core & ~self.services.running == 0

    def _judge(self, healthy: bool) -> None:
        """The status table of node-protocol 3.4 for one more outcome."""
        if self.status in (Status.OFFLINE, Status.DRAINING):
            return
        self._outcomes.append(healthy)
        self._healthy_in_a_row = self._healthy_in_a_row + 1 if healthy else 0
        if healthy:
            if self.status is Status.DEGRADED or (
                self.status is Status.REGISTERING and self._healthy_in_a_row >= self.rules.health_check_count
            ):
                self.status = Status.READY
                self._outcomes.clear()
        elif self.status is Status.READY and self._failing():
            self.status = Status.DEGRADED

    def _failing(self) -> bool:
        in_a_row = 0
        for ok in reversed(self._outcomes):
            if ok:
                break
            in_a_row += 1
        failures = len(self._outcomes) - sum(self._outcomes)
        return in_a_row >= self.rules.consecutive_failure_count or failures >= self.rules.failure_count


class Languages:
    """The languages of a node, normalised once per report; see the case table of node-protocol 5.2."""

    def __init__(self, reported: NodeLanguageCapabilities) -> None:
        self.asr = _codes(reported.asr_languages)
        self.tts = _codes(reported.tts_languages)
        self._pairs = None
        if reported.supported_language_pairs is not None:
            self._pairs = _pairs(reported.supported_language_pairs, MAX_PAIRS)
        self._rules = None
        self._sources = self.asr
        if reported.nmt_capabilities is not None:
            self._rules = [_Rule(rule) for rule in reported.nmt_capabilities[:MAX_RULES]]
            self._sources = self.asr & (_codes(reported.semantic_languages) or self.asr)
        self._spoken = self._targets(speaks=True)
        self._written = self._targets(speaks=False)
        self.codes = (
            self.asr | self.tts | self._written | {code for pair in self._pairs or () for code in pair}
        )
        """Every language the node could be asked for."""

    @property
    def any(self) -> bool:
        """Whether there is a pair the node can do, be it in writing only."""
        return bool(self._spoken or self._written)

    def serve(self, src: str, tgt: str, needs: Services) -> bool:
        """Whether such jobs can be done; `*` as a side asks for any language there."""
        if not needs & Services.NMT:
            return src == ANY or src in self.asr
        speaks = bool(needs & (Services.TTS | Services.TONE))
        if src == ANY:
            return tgt in (self._spoken if speaks else self._written)
        if self._pairs is not None:
            return (src, tgt) in self._pairs
        if src == tgt or src not in self._sources:
            return False
        if self._rules is None:
            return tgt in self.tts
        return (tgt in self.tts or not speaks) and any(rule.allows(src, tgt) for rule in self._rules)

    def _targets(self, *, speaks: bool) -> set[str]:
        """Languages that some source can be translated into."""
        if self._pairs is not None:
            return {tgt for _, tgt in self._pairs}
        if self._rules is None:
            return {tgt for tgt in self.tts if self.asr and self.asr != {tgt}}
        found = set().union(*(rule.targets_from(self._sources) for rule in self._rules))
        return found & self.tts if speaks else found


class _Rule:
    """One translation rule, read once (table in node-protocol 2.12); unknown ones allow nothing."""

    def __init__(self, reported: NmtCapability) -> None:
        languages = _codes(reported.languages)
        self._blocked = _pairs(reported.blocked_pairs)
        self._listed: set[tuple[str, str]] | None = None
        self._sources: set[str] = set()
        self._targets: set[str] = set()
        match reported.rule:
            case "any_to_any":
                self._sources = self._targets = languages
            case "any_to_en":
                self._sources, self._targets = languages, {"en"}
            case "en_to_any":
                self._sources, self._targets = {"en"}, languages
            case "specific_pairs":
                self._listed = _pairs(reported.supported_pairs) - self._blocked

    def allows(self, src: str, tgt: str) -> bool:
        """Whether the pair of two different languages can be translated."""
        if self._listed is not None:
            return (src, tgt) in self._listed
        return src in self._sources and tgt in self._targets and (src, tgt) not in self._blocked

    def targets_from(self, sources: set[str]) -> set[str]:
        """Languages that one of these sources can be translated into."""
        if self._listed is not None:
            return {tgt for src, tgt in self._listed if src in sources}
        starts = self._sources & sources
        # only the language itself and blocked pairs are tried in vain, so this takes no time of n times n
        return {
            tgt
            for tgt in self._targets
            if any(src != tgt and (src, tgt) not in self._blocked for src in starts)
        }


def _codes(codes: list[str] | None) -> set[str]:
    return {code for code in map(normalize, (codes or ())[:MAX_LANGUAGES]) if code and code != AUTO}


def _pairs(pairs: list[LanguagePair] | None, most: int = MAX_RULE_PAIRS) -> set[tuple[str, str]]:
    """Directed pairs of two different languages."""
    found = {(normalize(pair.src), normalize(pair.tgt)) for pair in (pairs or ())[:most]}
    return {(src, tgt) for src, tgt in found if src != tgt and src and tgt and AUTO not in (src, tgt)}
