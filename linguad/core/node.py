"""One node: what it offers, what it may get, and how it is doing (node-protocol 3, 5.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from linguad.core.health import Health, Status
from linguad.core.key import Features, Key
from linguad.core.languages import Languages
from linguad.core.memory import MAX_SPEEDS, Remembered
from linguad.core.reruns import NONE
from linguad.core.rules import NodeRules
from linguad.core.services import Services, ServiceTable
from linguad.core.standing import ailment
from linguad.wire.node import (
    HardwareInfo,
    NodeHeartbeat,
    NodeLanguageCapabilities,
    NodeRegister,
    Register,
    ResourceUsage,
)
from linguad.wire.override import Override
from linguad.wire.record import LOAD_STEP, NodeRecord

NOTHING_SAID = Override()

MAX_GPU_QUEUE = 10_000
"""Tasks believed of one node; a number without end would not fit the table."""

SPARSE_FACTOR = 4.0
"""Nodes written after the documentation report every 30 to 60 s instead of every 15 s."""


class Node:
    """Record of one node; mutable, owned by the fleet."""

    def __init__(self, node_id: str, rules: NodeRules, now: float) -> None:
        self.id = node_id
        self.rules = rules
        self.health = Health(rules)
        self.connection = 0
        """Generation of the connection that owns the record, or the epoch of an owner's lease; 0 while
        offline."""
        self.afar: NodeRecord | None = None
        """What another instance tells of it that has its socket."""
        self.out_of_reach = False
        """That instance cannot be asked."""
        self.others_use = 0
        """Slots of it that others than this instance use, as its owner knew them."""
        self.registered_at = now
        self.last_heartbeat_at = now
        self.last_answer_at = now
        """When the node last answered any job."""
        self.platform = ""
        self.hardware = HardwareInfo()
        self.accepts_public = True
        self.features = Features.NONE
        self.said = NOTHING_SAID
        """What an operator said about it over HTTP."""
        self.override = rules.overrides.get(node_id, NOTHING_SAID)
        """That, and where it is silent what the settings say."""
        self.usage = ResourceUsage()
        self.services = ServiceTable(rules.marks)
        self.models: tuple[str, ...] = ()
        """Ids of the models on its disk that are switched on."""
        self.reruns = NONE
        """Repeated recognitions since its start, as it reported them last."""
        self.efficiencies: Mapping[str, float] = {}
        """Work per time of its services, as it reported it last."""
        self.languages = Languages(NodeLanguageCapabilities())
        self.pool: int | None = None
        """Id of its capability pool."""
        self.no_work: Counter[str] = Counter()
        """How often the node was passed over, by the reason, when jobs found no node at all."""
        self.missed: Counter[str] = Counter()
        """How often it was for want of a type of service, as `tts:no_impl`."""
        self._reported_languages = NodeLanguageCapabilities()
        self._reported_cap: int | None = None
        self._sparse_heartbeats = False

    @property
    def status(self) -> Status:
        """Where the node stands; only a READY one gets work."""
        if not self.online:
            return Status.OFFLINE
        if self.afar is not None:
            return Status.OFFLINE if self.out_of_reach else _status(self.afar)
        return Status.DRAINING if self.override.drain else self.health.state

    @property
    def cap(self) -> int:
        """Jobs at once: the operator's word, else the node's, else the default."""
        if self.afar is not None:
            return self.afar.slots
        return self.override.cap or self._reported_cap or self.rules.max_concurrent_jobs

    @property
    def slots(self) -> int:
        """Jobs it may have now; on probation just one.

        Of another instance those that others leave, which is a guess, so that one can always be tried.
        """
        if self.afar is not None:
            return max(1, self.afar.slots - self.others_use)
        return 1 if self.health.on_probation else self.cap

    @property
    def owner(self) -> str:
        """The instance that has its socket, "" if it is this one or none."""
        return "" if self.afar is None else self.afar.owner

    @property
    def would_serve(self) -> bool:
        """Whether it would get work if only its owner could be asked."""
        return self.afar is not None and self.out_of_reach and _status(self.afar) is Status.READY

    @property
    def weight(self) -> float:
        """Factor of its speed as selection sees it."""
        if self.afar is not None:
            return self.afar.weight
        return self.override.weight or 1.0

    @property
    def queue_s(self) -> float:
        """Audio before it that others than our own attempts brought there, as it is believed; s."""
        tasks = (self.usage.gpu_queue_length or 0) + self.others_use
        return self.rules.gpu_queue_task_s * min(tasks, MAX_GPU_QUEUE)

    @property
    def penalty_s(self) -> float:
        """What is added to the finish expected of it: it is busy, or far away."""
        usage, rules = self.usage, self.rules
        busiest = max(usage.cpu_percent or 0.0, usage.mem_percent or 0.0, usage.gpu_percent or 0.0)
        overload_s = rules.overload_penalty_s if busiest >= rules.resource_threshold else 0.0
        return overload_s if self.afar is None else overload_s + rules.remote_penalty_s

    @property
    def offer(self) -> tuple[object, ...]:
        """All that decides which index keys the node fits; equal offers need no re-indexing."""
        return self.accepts_public, self.features, self.services.running, self.pool, self._reported_languages

    @property
    def oldest_generation(self) -> bool:
        """Whether the node is of the generation with its own slice flags (node-protocol 2.14)."""
        return self._reported_languages.semantic_core_ready is None

    @property
    def has_gpu(self) -> bool:
        """Whether the registration listed at least one GPU."""
        return bool(self.hardware.gpus)

    @property
    def heartbeat_timeout_s(self) -> float:
        """How long the node may say nothing."""
        factor = SPARSE_FACTOR if self._sparse_heartbeats else 1.0
        return self.rules.heartbeat_timeout_s * factor

    @property
    def online(self) -> bool:
        """Whether a connection owns the record."""
        return self.connection != 0

    @property
    def is_here(self) -> bool:
        """Whether that connection is one of this instance."""
        return self.online and self.afar is None

    def speak_of(self, said: Override) -> None:
        """Take an operator's word, in place of an earlier one."""
        self.said = said
        self.override = said.over(self.rules.overrides.get(self.id, NOTHING_SAID))

    def change_rules(self, rules: NodeRules) -> None:
        """Live by other rules from now on."""
        self.rules = rules
        self.health.change_rules(rules)
        self.speak_of(self.said)
        if self.online:
            self.pool = rules.pools.home(self.id, self.services.installed)

    def recall(self, remembered: Remembered) -> None:
        """Take over what an earlier record of the node left."""
        self.speak_of(remembered.said)
        self.health.failed_probations = remembered.failed_probations
        self.health.on_probation = remembered.on_probation
        self.health.quarantined_until = remembered.quarantined_until

    def remembered(self, speeds: tuple[tuple[Key, float], ...]) -> Remembered:
        """What it leaves to its next record, with what was learned of it."""
        health = self.health
        return Remembered(
            said=self.said,
            failed_probations=health.failed_probations,
            on_probation=health.on_probation,
            quarantined_until=health.quarantined_until,
            speeds=speeds[-MAX_SPEEDS:],
        )

    def registered(self, message: NodeRegister, connection: int, now: float) -> None:
        """Take over a registration; the node has to show its health again."""
        if self.afar is not None:
            self.lost()
        self.connection = connection
        self.registered_at = self.last_heartbeat_at = now
        self.health.registered()
        self.services.clear_all()
        self._sparse_heartbeats = isinstance(message, Register)
        self.platform = message.platform or ""
        self.hardware = message.hardware or HardwareInfo()
        self.accepts_public = message.accept_public_jobs is not False
        self.features = Features.of(message.features_supported)
        self._describe(message)

    def described(self, record: NodeRecord, others_use: int, now: float) -> None:
        """Take over what its owner tells."""
        self.afar, self.others_use, self.out_of_reach = record, others_use, False
        if record.epoch != self.connection:
            self.connection, self.registered_at = record.epoch, now
        self.last_heartbeat_at = now
        self.platform, self.hardware, self.usage = record.platform, record.hardware, record.usage
        self.accepts_public, self.features = record.public, Features(record.features)
        self.speak_of(record.said)
        if record.languages != self._reported_languages:
            self._reported_languages = record.languages
            self.languages = Languages(record.languages)
        self.services = ServiceTable(self.rules.marks)
        self.services.running, self.services.installed = Services(record.services), Services(record.installed)
        self.pool = self.rules.pools.home(self.id, self.services.installed)

    def record(self, owner: str, boot: str, epoch: int, used_by: dict[str, int]) -> NodeRecord:
        """What other instances are told of it."""
        return NodeRecord(
            node=self.id,
            owner=owner,
            boot=boot,
            epoch=epoch,
            status=self.status.value,
            slots=self.slots,
            used_by=used_by,
            services=int(self.services.running),
            installed=int(self.services.installed),
            features=int(self.features),
            public=self.accepts_public,
            weight=self.weight,
            platform=self.platform,
            hardware=self.hardware,
            languages=self._reported_languages,
            usage=_rounded(self.usage),
            said=self.said,
        )

    def heartbeat(self, message: NodeHeartbeat, now: float) -> None:
        """Replace what the node says of itself and judge its health (node-protocol 4)."""
        self.last_heartbeat_at = now
        if message.resource_usage is not None:
            self.usage = message.resource_usage
        if message.rerun_metrics is not None:
            self.reruns = message.rerun_metrics
        reported = message.processing_metrics
        if reported is not None and reported.service_efficiencies is not None:
            self.efficiencies = reported.service_efficiencies
        self._describe(message)
        self.health.heartbeat(ailment(self) is None, now)

    def passed_over(self, why: str, missing_types: Mapping[str, str]) -> None:
        """A job that found no node could not go here either."""
        self.no_work[why] += 1
        for kind, reason in missing_types.items():
            self.missed[f"{kind}:{reason}"] += 1

    def lost(self) -> None:
        """The connection is gone; the node tells anew what it offers when it comes back."""
        self.connection, self.afar, self.out_of_reach, self.others_use = 0, None, False, 0
        self._reported_languages = NodeLanguageCapabilities()
        self.languages = Languages(self._reported_languages)
        self.services = ServiceTable(self.rules.marks)
        self.models, self.efficiencies = (), {}
        self.pool = None

    def overdue(self, now: float) -> bool:
        """Whether heartbeats stopped."""
        return self.is_here and now - self.last_heartbeat_at > self.heartbeat_timeout_s

    def warmed_up_too_long(self, now: float) -> bool:
        """Whether a registering node took longer than it may to become healthy."""
        warming_up = self.is_here and self.health.state is Status.REGISTERING
        return warming_up and now - self.registered_at > self.rules.warmup_timeout_s

    def fits(self, key: Key) -> bool:
        """Whether the node can do such jobs at all: services running and languages (node-protocol 5.2)."""
        return (
            self.fits_but_for_languages(key)
            and self.languages.serve(key.src, key.tgt, key.needs)
            and (not key.two_way or self.languages.serve(key.tgt, key.src, key.needs))
        )

    def fits_but_for_languages(self, key: Key) -> bool:
        """Whether the node could do such jobs if it knew the languages."""
        if not self.online or key.needs & ~self.services.running or key.features & ~self.features:
            return False
        if key.node:
            return key.node == self.id
        return self.accepts_public and (not key.pools or self.pool in key.pools)

    def _describe(self, message: NodeRegister | NodeHeartbeat) -> None:
        reported = message.language_capabilities
        if reported is not None and reported != self._reported_languages:
            self._reported_languages = reported
            self.languages = Languages(reported)
        if message.installed_models is not None:
            self.models = tuple(
                model.model_id for model in message.installed_models if model.enabled is not False
            )
        if message.max_concurrent_jobs is not None:
            self._reported_cap = message.max_concurrent_jobs
        if message.installed_services is not None or message.capability_by_type is not None:
            self.services.update(message.installed_services, message.capability_by_type, self._device_counts)
        self.pool = self.rules.pools.home(self.id, self.services.installed)

    def _device_counts(self, device: str) -> bool:
        return self.rules.require_gpu == "never" or (device in ("gpu", "auto") and self.has_gpu)


def _status(record: NodeRecord) -> Status:
    """Where a node stands with its owner; what a newer version may say is no reason to use it."""
    try:
        return Status(record.status)
    except ValueError:
        return Status.DEGRADED


def _rounded(usage: ResourceUsage) -> ResourceUsage:
    """A load that does not change with every heartbeat."""
    percents = {
        name: value // LOAD_STEP * LOAD_STEP
        for name in ("cpu_percent", "gpu_percent", "gpu_mem_percent", "mem_percent")
        if (value := getattr(usage, name)) is not None
    }
    return ResourceUsage(gpu_queue_length=usage.gpu_queue_length, **percents)
