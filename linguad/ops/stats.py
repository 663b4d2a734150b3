"""What `/api/v1/stats` tells, member for member as the earlier server did (pools-and-cluster 7.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import UNSET, Struct, UnsetType, field

from linguad.core.health import Status
from linguad.core.job import JobRequest
from linguad.core.node import Node
from linguad.core.requests import TWO_WAY
from linguad.core.services import Services as Types
from linguad.core.steps import Steps, parts
from linguad.ops.services import Service
from linguad.wire.language import AUTO, normalize

TOP_LANGUAGES = 10

MAX_NAMED = 1_000
"""Languages, services and models that are listed, those used most; peers make their names up."""

CPU_SHARE, GPU_SHARE, MEMORY_SHARE = 50.0, 75.0, 75.0
"""Percent of a machine that may be used; what is free below it counts as power."""


class Use(Struct):
    """How often a language is spoken and asked for; by sessions."""

    as_source: int = 0
    as_target: int = 0
    total: int = 0


class TopLanguage(Struct, frozen=True):
    """One of the languages that are used most."""

    language: str
    count: int


class WebClients(Struct, kw_only=True):
    """The clients of this instance."""

    active_users: int = 0
    top_languages: list[TopLanguage] = field(default_factory=list)
    language_usage: dict[str, Use] = field(default_factory=dict)


class Power(Struct, frozen=True, kw_only=True):
    """What a node could still do: spare cores, spare GB of GPU memory and of memory."""

    node_id: str
    node_name: str
    cpu_power: float
    gpu_power: float
    memory_power: float
    service_efficiencies: dict[str, float] | UnsetType = UNSET
    asr_efficiency: float | UnsetType = UNSET
    nmt_efficiency: float | UnsetType = UNSET
    tts_efficiency: float | UnsetType = UNSET


class ComputePower(Struct, kw_only=True):
    """The same of all nodes together, and each."""

    total_cpu_power: float = 0.0
    total_gpu_power: float = 0.0
    total_memory_power: float = 0.0
    node_power_details: list[Power] = field(default_factory=list)


class NodeStats(Struct, kw_only=True):
    """The nodes that are online, and what a hub offers them."""

    connected_nodes: int = 0
    type_node_counts: dict[str, int] = field(default_factory=dict)
    """By type of service: nodes that have it installed."""
    type_in_use_counts: dict[str, int] = field(default_factory=dict)
    """By type of service: ready nodes that have it running."""
    model_node_counts: dict[str, int] = field(default_factory=dict)
    service_node_counts: dict[str, int] = field(default_factory=dict)
    available_services: Sequence[Service] = ()
    total_services: int = 0
    compute_power: ComputePower = field(default_factory=ComputePower)


class Stats(Struct, kw_only=True):
    """The whole answer; as it is without arguments, the one before the first count."""

    web_clients: WebClients = field(default_factory=WebClients)
    nodes: NodeStats = field(default_factory=NodeStats)


def stats(
    requests: Sequence[JobRequest], users: int, nodes: Sequence[Node], services: Sequence[Service]
) -> Steps[Stats]:
    """Count; `requests` are what the sessions have in common with all they ask for, one of each session."""
    usage: dict[str, Use] = {}
    uses: Counter[str] = Counter()
    for some in parts(requests):
        for request in some:
            _count_languages(request, usage, uses)
        yield
    found = NodeStats(available_services=services, total_services=len(services))
    installed: Counter[Types] = Counter()
    running: Counter[Types] = Counter()
    models: Counter[str] = Counter()
    ids: Counter[str] = Counter()
    power = found.compute_power
    for some_nodes in parts(nodes):
        for node in some_nodes:
            if not node.online:
                continue
            found.connected_nodes += 1
            installed.update(kind for kind in Types if kind & node.services.installed)
            if node.status is Status.READY:
                running.update(kind for kind in Types if kind & node.services.running)
            models.update(set(node.models))
            ids.update(node.services.running_ids.keys())
            one = power_of(node)
            power.node_power_details.append(one)
            power.total_cpu_power += one.cpu_power
            power.total_gpu_power += one.gpu_power
            power.total_memory_power += one.memory_power
        yield
    found.type_node_counts, found.type_in_use_counts = _by_type(installed), _by_type(running)
    found.model_node_counts = dict(models.most_common(MAX_NAMED))
    found.service_node_counts = dict(ids.most_common(MAX_NAMED))
    top = [TopLanguage(language, count) for language, count in uses.most_common(TOP_LANGUAGES)]
    listed = sorted(usage, key=lambda language: -usage[language].total)[:MAX_NAMED]
    clients = WebClients(
        active_users=users,
        top_languages=top,
        language_usage={language: usage[language] for language in listed},
    )
    return Stats(web_clients=clients, nodes=found)


def power_of(node: Node) -> Power:
    """The power of a node; what it does not tell counts as nothing."""
    hardware, usage = node.hardware, node.usage
    gpu_gb = sum(gpu.memory_gb for gpu in hardware.gpus or ())
    efficiencies = dict(node.efficiencies)
    return Power(
        node_id=node.id,
        node_name=f"Node-{node.id[:8]}",
        cpu_power=_spare(CPU_SHARE, usage.cpu_percent) * max(0.0, hardware.cpu_cores),
        gpu_power=_spare(GPU_SHARE, usage.gpu_percent) * max(0.0, gpu_gb),
        memory_power=_spare(MEMORY_SHARE, usage.mem_percent) * max(0.0, hardware.memory_gb),
        service_efficiencies=efficiencies or UNSET,
        asr_efficiency=_efficiency(node, Types.ASR),
        nmt_efficiency=_efficiency(node, Types.NMT),
        tts_efficiency=_efficiency(node, Types.TTS),
    )


def _spare(share: float, used_percent: float | None) -> float:
    return 0.0 if used_percent is None else max(0.0, share - used_percent) / 100


def _efficiency(node: Node, kind: Types) -> float | UnsetType:
    """That of the node's service of a type; of the best one, if it has several."""
    types = node.services.running_ids
    known = (value for name, value in node.efficiencies.items() if types.get(name, Types.NONE) & kind)
    return max(known, default=UNSET)


def _by_type(counts: Counter[Types]) -> dict[str, int]:
    return {str(kind.name).capitalize(): counts[kind] for kind in Types if counts[kind]}


def _count_languages(request: JobRequest, usage: dict[str, Use], uses: Counter[str]) -> None:
    """Source and target count once each; of a pair each language counts as both, and as one use more."""
    for language in _known(request.src_lang):
        _use(usage, language).as_source += 1
        usage[language].total += 1
        uses[language] += 1
    for language in _known(request.tgt_lang):
        _use(usage, language).as_target += 1
        usage[language].total += 1
        uses[language] += 1
    if request.mode == TWO_WAY:
        for language in _known(request.lang_a, request.lang_b):
            use = _use(usage, language)
            use.as_source += 1
            use.as_target += 1
            use.total += 2
            uses[language] += 1


def _known(*languages: str | None) -> Iterable[str]:
    codes = (normalize(language) for language in languages if language)
    return [code for code in codes if code != AUTO]


def _use(usage: dict[str, Use], language: str) -> Use:
    return usage.setdefault(language, Use())
