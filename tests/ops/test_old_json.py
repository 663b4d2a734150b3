"""What pages and scripts of the earlier server read: every member, every type (pools-and-cluster 3.7 to 7.3).

The Structs below are the tables of the specification; what is no member of them fails the test, but for our
own additions, which are named.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from harness import SERVICES, World, daemon_in_memory
from looking import TOKEN, app_of, get
from msgspec import UNSET, Meta, Struct, UnsetType
from prometheus_client import REGISTRY
from trio.testing import MockClock

from linguad import log
from linguad.config import Config
from linguad.ops.pools import add_pool_routes
from linguad.ops.services import Artifact, Service, State, Variant
from linguad.web.app import create_app

Count = Annotated[int, Meta(ge=0)]


class Exact(Struct, forbid_unknown_fields=True, kw_only=True):
    """No other member is allowed."""


class TopLanguage(Exact):
    language: str
    count: Count


class Use(Exact):
    as_source: Count
    as_target: Count
    total: Count


class WebClients(Exact):
    active_users: Count
    top_languages: Annotated[list[TopLanguage], Meta(max_length=10)]
    language_usage: dict[str, Use]


class OldArtifact(Exact):
    type: str
    url: str
    sha256: str
    size_bytes: Count


class OldVariant(Exact):
    version: str
    platform: str
    artifact: OldArtifact


class OldService(Exact):
    service_id: str
    name: str
    latest_version: str
    variants: list[OldVariant]


class PowerDetail(Exact):
    node_id: str
    node_name: str
    cpu_power: float
    gpu_power: float
    memory_power: float
    service_efficiencies: dict[str, float] | UnsetType = UNSET
    asr_efficiency: float | UnsetType = UNSET
    nmt_efficiency: float | UnsetType = UNSET
    tts_efficiency: float | UnsetType = UNSET


class ComputePower(Exact):
    total_cpu_power: float
    total_gpu_power: float
    total_memory_power: float
    node_power_details: list[PowerDetail]


class NodeStats(Exact):
    connected_nodes: Count
    type_node_counts: dict[str, Count]
    type_in_use_counts: dict[str, Count]
    available_services: list[OldService]
    total_services: Count
    compute_power: ComputePower
    model_node_counts: dict[str, Count]
    service_node_counts: dict[str, Count]


class OldStats(Exact):
    web_clients: WebClients
    nodes: NodeStats


class StatsCounts(Exact):
    requests_total: Count
    stale_total: Count
    snapshot_updated_at_ms: Count


class Catalog(Exact):
    fetched_at_ms: Count
    last_success_at_ms: Count
    fail_count: Count
    last_error: str | None


class KeyCount(Exact):
    key: str
    count: Count


Top = Annotated[list[KeyCount], Meta(max_length=20)]


class ModelNa(Exact):
    received_total: Count
    rate_limited_total: Count
    marked_total: Count
    by_service_top: Top
    by_reason_top: Top
    rate_limited_by_node_top: Top
    marked_by_node_top: Top
    other_service_total: Count
    other_reason_total: Count
    other_rate_limited_node_total: Count
    other_marked_node_total: Count


class Excluded(Exact):
    reason: str
    total: Count
    sample_node_ids: Annotated[list[str], Meta(max_length=5)]


class Exclude(Exact):
    by_reason: list[Excluded]


class Segmentation(Exact):
    finalized_total: Count
    finalized_by_send_total: Count
    finalized_by_pause_total: Count
    pause_ms: Count
    empty_finalize_total: Count
    index_gap_total: Count


class Locks(Exact):
    node_registry_nodes_read_total: Count
    node_registry_nodes_write_total: Count
    node_registry_reserved_jobs_write_total: Count
    node_registry_unavailable_services_write_total: Count
    node_registry_exclude_reason_stats_read_total: Count
    node_registry_exclude_reason_stats_write_total: Count
    other_total: Count


class Paths(Exact):
    node_registry_select_node_with_features_total: Count
    node_registry_select_node_with_models_total: Count
    other_total: Count


class Observability(Exact):
    slow_lock_wait_total: Count
    slow_path_total: Count
    lock_wait_warn_ms: Count
    path_warn_ms: Count
    slow_lock_wait_by_lock: Locks
    slow_path_by_path: Paths


class Rerun(Exact):
    trigger_count: Count
    success_count: Count
    timeout_count: Count
    quality_improvements: Count
    context_reset_count: Count


class Latency(Exact):
    p50_ms: float
    p95_ms: float
    p99_ms: float
    count: Count


class AsrMode(Exact):
    e2e_latency: Latency
    lang_prob_distribution: Annotated[list[KeyCount], Meta(min_length=5, max_length=5)]
    bad_segment_rate: float
    rerun_trigger_rate: float


class Asr(AsrMode):
    by_mode: dict[str, AsrMode]
    """Ours: `room` and `single`."""


class OldMetrics(Exact):
    stats: StatsCounts
    service_catalog: Catalog
    model_not_available: ModelNa
    dispatch_exclude: Exclude
    web_task_segmentation: Segmentation
    observability: Observability
    rerun: Rerun
    asr: Asr


class PoolPage(Exact):
    config: dict[str, Any]
    pools: list[Pool]
    lang_pools: list[LangPool]
    more_lang_pools: Count
    """Ours."""
    nodes_not_counted: Count
    """Ours."""


class Pool(Exact):
    pool_id: Count
    total_nodes: Count
    online_nodes: Count
    ready_nodes: Count
    core_services_installed: dict[str, Count]
    core_services_ready: dict[str, Count]
    sample_node_ids: Annotated[list[str], Meta(max_length=5)]
    pool_name: str | UnsetType = UNSET
    pool_required_services: list[str] | UnsetType = UNSET


class Shard(Struct):
    """There are more members, of ours."""

    id: Count
    size: Count


class LangPool(Struct):
    """There are more members, of ours."""

    src: str
    tgt: str
    kind: str
    shards: list[Shard]
    online_nodes: Count
    ready_nodes: Count
    sample_node_ids: Annotated[list[str], Meta(max_length=5)]


class Debug(Exact):
    pool_count: Annotated[int, Meta(ge=1)]
    preferred_pool: Count
    selected_pool: Count | None
    fallback_used: bool
    attempts: list[tuple[int, str, int]]


class Breakdown(Struct):
    total_nodes: Count
    offline: Count
    status_not_ready: Count
    not_in_public_pool: Count
    gpu_unavailable: Count
    model_not_available: Count
    capacity_exceeded: Count
    resource_threshold_exceeded: Count
    lang_pair_unsupported: Count
    asr_lang_unsupported: Count
    tts_lang_unsupported: Count
    src_auto_no_candidate: Count


class Simulated(Struct):
    routing_key: str
    required: list[str]
    selected_node_id: str | None
    debug: Debug
    breakdown: Breakdown


EFFICIENCIES = {"serviceEfficiencies": {"test-asr": 3.5, "test-nmt": 80.0, "unknown": 2.0}}


async def used(world: World) -> None:
    """Some of everything: languages, services, a model, efficiencies, results."""
    world.daemon.services = Offer()
    client = await world.client(mode="two_way_auto", lang_a="zh", lang_b="en", src_lang="auto", tgt_lang="en")
    node = await world.node("node-1")
    models = [
        {"model_id": "whisper-small", "kind": "asr"},
        {"model_id": "off", "kind": "asr", "enabled": False},
    ]
    await node.heartbeat(processing_metrics=EFFICIENCIES, installed_models=models)
    await client.speak()
    await node.answer(await node.job())
    await client.result()
    await world.daemon.watch.snapshot.build()


class Offer:
    """A hub that offers one service."""

    def listed(self) -> list[Service]:
        artifact = Artifact("zip", "/storage/x.zip", "ab", 7)
        return [Service("nmt-m2m100", "M2M100", "1.0.0", (Variant(artifact, "1.0.0", "linux-x64"),))]

    def state(self) -> State:
        return State(1, 1)


async def test_stats(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        app = app_of(world.daemon)
        empty = await get(app, "/api/v1/stats")
        assert msgspec.convert(empty, OldStats).nodes.connected_nodes == 0
        assert empty["nodes"]["compute_power"]["node_power_details"] == []
        await used(world)
        body = await get(app, "/api/v1/stats")
        found = msgspec.convert(body, OldStats)
    assert found.web_clients.active_users == 1
    assert {one.language: one.count for one in found.web_clients.top_languages} == {"en": 2, "zh": 1}
    assert body["web_clients"]["language_usage"] == {
        "en": {"as_source": 1, "as_target": 2, "total": 3},
        "zh": {"as_source": 1, "as_target": 1, "total": 2},
    }
    assert found.nodes.connected_nodes == 1
    assert found.nodes.type_node_counts == {"Asr": 1, "Nmt": 1, "Tts": 1}
    assert found.nodes.type_in_use_counts == {"Asr": 1, "Nmt": 1, "Tts": 1}
    assert found.nodes.model_node_counts == {"whisper-small": 1}
    assert found.nodes.service_node_counts == {service["service_id"]: 1 for service in SERVICES}
    assert body["nodes"]["available_services"] == [
        {
            "service_id": "nmt-m2m100",
            "name": "M2M100",
            "latest_version": "1.0.0",
            "variants": [
                {
                    "version": "1.0.0",
                    "platform": "linux-x64",
                    "artifact": {"type": "zip", "url": "/storage/x.zip", "sha256": "ab", "size_bytes": 7},
                }
            ],
        }
    ]
    assert found.nodes.total_services == 1
    (power,) = found.nodes.compute_power.node_power_details
    assert (power.node_id, power.node_name) == ("node-1", "Node-node-1")
    assert round(power.cpu_power, 3) == round((50 - 21.5) / 100 * 16, 3)
    assert round(power.gpu_power, 3) == round((75 - 43) / 100 * 24, 3)
    assert round(power.memory_power, 3) == round((75 - 55.1) / 100 * 64, 3)
    assert power.service_efficiencies == EFFICIENCIES["serviceEfficiencies"]
    assert (power.asr_efficiency, power.nmt_efficiency, power.tts_efficiency) == (3.5, 80.0, UNSET)
    assert found.nodes.compute_power.total_cpu_power == power.cpu_power


async def test_metrics(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        app = app_of(world.daemon)
        msgspec.convert(await get(app, "/api/v1/metrics"), OldMetrics)
        await used(world)
        body = await get(app, "/api/v1/metrics")
        found = msgspec.convert(body, OldMetrics)
    assert [one.key for one in found.asr.lang_prob_distribution] == [
        "0.0-0.2",
        "0.2-0.4",
        "0.4-0.6",
        "0.6-0.8",
        "0.8-1.0",
    ]
    assert set(found.asr.by_mode) == {"room", "single"}
    assert found.asr.e2e_latency.count == 1
    assert found.web_task_segmentation.pause_ms == world.daemon.config.sessions.pause_ms
    assert found.observability.path_warn_ms == world.daemon.config.log.slow_path_ms
    assert found.service_catalog.last_success_at_ms == 1


async def test_pools_and_simulate(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await used(world)
        app = create_app("test")
        add_pool_routes(app, world.daemon, TOKEN)
        page = msgspec.convert(await get(app, "/api/v1/phase3/pools"), PoolPage)
        assert {(one.src, one.tgt, one.kind) for one in page.lang_pools} >= {("en", "es", "precise")}
        path = "/api/v1/phase3/simulate?src_lang=en&tgt_lang=es&required=asr&required=nmt&required=tts"
        found = msgspec.convert(await get(app, path), Simulated)
    assert (found.selected_node_id, found.required) == ("node-1", ["asr", "nmt", "tts"])


async def test_settings_are_told_as_a_reload_left_them(autojump_clock: MockClock) -> None:
    core = {"id": 10, "required_services": ["asr", "nmt", "tts"]}
    settings = {"sessions": {"pause_ms": 2500}, "pools": {"capability": {"core": core}}}
    async with daemon_in_memory() as world:
        daemon = world.daemon
        app = app_of(daemon)
        add_pool_routes(app, daemon, TOKEN)
        daemon._reread = lambda: msgspec.convert(settings, Config)
        try:
            daemon.reload()
        finally:
            log.reset()
        assert (await get(app, "/api/v1/metrics"))["web_task_segmentation"]["pause_ms"] == 2500
        assert REGISTRY.get_sample_value("scheduler_web_task_pause_ms") == 2500
        told = (await get(app, "/api/v1/pools"))["config"]
        assert (told["enabled"], told["capability"]) == (True, {"core": core})
