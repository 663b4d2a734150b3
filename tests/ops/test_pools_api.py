"""`/api/v1/pools` and its dry run: the fields that old pages read, and what may be asked (spec 3.7, 3.8)."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from core.support import Desk, services
from quart_trio import QuartTrio

from linguad.config import Config, Pools
from linguad.config.pools import CapabilityPool as PoolSetting
from linguad.config.pools import TenantPool
from linguad.core import pool_page
from linguad.core.capability import CapabilityPool, PoolRules
from linguad.core.dispatch import Dispatch
from linguad.core.rules import NodeRules
from linguad.core.services import CORE_SERVICES, Services
from linguad.core.steps import Steps
from linguad.net.http import PEER
from linguad.net.peer import Peer
from linguad.ops.pools import DRY_RUNS, PLACES, add_pool_routes
from linguad.ops.steps import patiently
from linguad.pools import NodeTable
from linguad.web.app import create_app

LOCAL = {PEER: Peer("127.0.0.1", 4, "http")}
AWAY = {PEER: Peer("198.51.100.7", 4, "https")}
SETTINGS = Pools(
    capability={"core": PoolSetting(id=10, required_services=("asr", "nmt", "tts"))},
    tenants={"acme": TenantPool(pool="core", strict=True)},
)
TONED = CORE_SERVICES | Services.TONE


class Instance:
    """A daemon without tasks."""

    config = Config(pools=SETTINGS)

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    @property
    def dispatch(self) -> Dispatch:
        return self.desk.dispatch


def app_of(desk: Desk) -> QuartTrio:
    app = create_app("test")
    add_pool_routes(app, Instance(desk), "secret")
    return app


def pooled() -> Desk:
    """Two core nodes, one with tone, one that is no use, and one that is gone."""
    rules = PoolRules(
        pools=(
            CapabilityPool(id=10, name="core", services=CORE_SERVICES),
            CapabilityPool(id=12, name="rich", services=TONED),
        )
    )
    desk = Desk(NodeRules(pools=rules))
    for name, *more in (("b",), ("a",), ("rich", "tone")):
        desk.node(name, installed_services=services("asr", "nmt", "tts", *more))
    desk.node("useless", installed_services=services("asr"))
    desk.node("gone")
    desk.lose("gone")
    return desk


async def get(app: QuartTrio, path: str) -> tuple[int, Any]:
    answer = await app.test_client().get(path, scope_base=LOCAL)
    return answer.status_code, await answer.get_json()


@pytest.mark.parametrize("path", PLACES)
async def test_who_is_where(path: str) -> None:
    status, body = await get(app_of(pooled()), path)
    assert status == 200
    assert body["config"]["capability"] == {"core": {"id": 10, "required_services": ["asr", "nmt", "tts"]}}
    earlier = {
        "enabled": True,
        "mode": "two_level",
        "pool_count": 1,
        "hash_seed": 0,
        "fallback_scan_all_pools": True,
        "pools": [{"pool_id": 10, "name": "core", "required_services": ["asr", "nmt", "tts"]}],
        "tenant_overrides": [{"tenant_id": "acme", "pool_id": 10, "strict": True}],
        "pool_match_scope": "core_only",
        "pool_match_mode": "contains",
        "strict_pool_eligibility": False,
        "random_sample_size": 3,
        "enable_session_affinity": True,
    }
    assert earlier.items() <= body["config"].items()
    assert body["config"]["auto_pool_config"]["enable_mixed_pools"] is True
    core = {"asr": 2, "nmt": 2, "tts": 2}
    assert body["pools"][0] == {
        "pool_id": 10,
        "pool_name": "core",
        "pool_required_services": ["asr", "nmt", "tts"],
        "total_nodes": 2,
        "online_nodes": 2,
        "ready_nodes": 2,
        "core_services_installed": core,
        "core_services_ready": core,
        "sample_node_ids": ["a", "b"],
    }
    assert [pool["pool_id"] for pool in body["pools"]] == [10, 12]
    pairs = {(one["src"], one["tgt"]): one for one in body["lang_pools"]}
    assert set(pairs) == {("en", "es"), ("es", "en"), ("*", "es"), ("*", "en")}
    assert pairs["*", "es"]["kind"] == "mixed"
    one = pairs["en", "es"]
    assert (one["kind"], one["online_nodes"], one["ready_nodes"]) == ("precise", 3, 3)
    assert one["sample_node_ids"] == ["a", "b", "rich"]
    assert sum(shard["size"] for shard in one["shards"]) == 3
    assert [shard["id"] for shard in one["shards"]] == list(range(len(one["shards"])))
    assert (body["more_lang_pools"], body["nodes_not_counted"]) == (0, 0)


async def test_without_pools_the_fleet_is_one() -> None:
    desk = Desk()
    for number in range(7):
        desk.node(f"n-{number}")
    _, body = await get(app_of(desk), "/api/v1/pools")
    (pool,) = body["pools"]
    assert (pool["pool_id"], pool["total_nodes"]) == (0, 7)
    assert "pool_name" not in pool
    assert "pool_required_services" not in pool
    assert pool["sample_node_ids"] == [f"n-{number}" for number in range(5)]


async def test_what_is_listed() -> None:
    desk = Desk()
    desk.node("a", "en", "es", "fr")
    desk.node("b", "en", "es")
    app = app_of(desk)
    _, body = await get(app, "/api/v1/pools?src=en&tgt=es")
    assert [(one["src"], one["tgt"], one["online_nodes"]) for one in body["lang_pools"]] == [("en", "es", 2)]
    _, body = await get(app, "/api/v1/pools?src=fr")
    assert {(one["src"], one["tgt"]) for one in body["lang_pools"]} == {("fr", "en"), ("fr", "es")}
    _, body = await get(app, "/api/v1/pools?limit=2")
    assert len(body["lang_pools"]) == 2
    assert body["more_lang_pools"] == 7
    assert all(one["online_nodes"] == 2 for one in body["lang_pools"])


async def test_what_is_left_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_page, "MAX_PAIRS_READ", 10)
    monkeypatch.setattr(pool_page, "MAX_SHARDS", 2)
    desk = Desk(table=NodeTable(max_members=1))
    for number in range(9):
        desk.node(f"many-{number}", "a", "b", "c", "d")
    for number in range(4):
        desk.node(f"few-{number}", "x", "y")
    app = app_of(desk)
    _, body = await get(app, "/api/v1/pools")
    assert body["nodes_not_counted"] == 4
    pair = body["lang_pools"][0]
    assert (pair["online_nodes"], len(pair["shards"])) == (9, 2)
    assert pair["more_shards"] > 0
    assert pair["sample_node_ids"] == [f"many-{number}" for number in range(5)]
    _, body = await get(app, "/api/v1/pools?src=x&tgt=y")
    assert (body["nodes_not_counted"], body["lang_pools"][0]["online_nodes"]) == (0, 4)


async def test_others_have_their_turn_in_between() -> None:
    order: list[str] = []

    def steps() -> Steps[int]:
        for _ in range(5):
            order.append("work")
            yield
        return 7

    async def other() -> None:
        for _ in range(5):
            await trio.lowlevel.checkpoint()
            order.append("other")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert await patiently(steps()) == 7
    last = len(order) - order[::-1].index("work")
    assert order[:last].count("other") >= 2


@pytest.mark.parametrize("path", DRY_RUNS)
async def test_a_dry_run(path: str) -> None:
    desk = pooled()
    status, body = await get(
        app_of(desk), f"{path}?src_lang=en&tgt_lang=es&session_id=s&required=asr&required=nmt&required=tts"
    )
    assert status == 200
    assert body["selected_node_id"] in ("a", "b", "rich")
    assert body["routing_key"] == "s"
    assert body["required"] == ["asr", "nmt", "tts"]
    assert body["debug"]["pool_count"] == 2
    assert body["debug"]["fallback_used"] is False
    assert body["debug"]["selected_pool"] == body["debug"]["preferred_pool"]
    ((pool, reason, count),) = body["debug"]["attempts"]
    assert (pool, reason, count) == (body["debug"]["selected_pool"], "ok", 2 if pool == 10 else 1)
    assert body["breakdown"]["total_nodes"] == count
    assert len(body["now"]["candidates"]) == 5
    assert desk.used(body["selected_node_id"]) == 0


@pytest.mark.parametrize("query", ["", "?routing_key=&tenant_id=%20&session_id="])
async def test_the_earlier_servers_defaults(query: str) -> None:
    _, body = await get(app_of(Desk()), f"/api/v1/phase3/simulate{query}")
    assert body["routing_key"] == "default"
    assert body["required"] == []
    assert (body["asked_of_nodes"]["src"], body["asked_of_nodes"]["tgt"]) == ("zh", "en")
    assert body["selected_node_id"] is None
    assert body["debug"]["selected_pool"] is None
    assert set(body["breakdown"]) == {
        *("total_nodes", "offline", "status_not_ready", "not_in_public_pool", "gpu_unavailable"),
        *("model_not_available", "capacity_exceeded", "resource_threshold_exceeded", "lang_pair_unsupported"),
        *("asr_lang_unsupported", "tts_lang_unsupported", "src_auto_no_candidate"),
    }


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/v1/pools?limit=0", "limit: allowed is"),
        ("/api/v1/pools?limit=1e3", "limit: allowed is"),
        ("/api/v1/pools?limit=99999999999", "limit: allowed is"),
        ("/api/v1/pools?src=!", "src: allowed is"),
        ("/api/v1/pools?nodes=1", "nodes: there is no such filter"),
        ("/api/v1/pools/simulate?required=asr&required=whisper", "required: there is no 'whisper'"),
        ("/api/v1/pools/simulate?accept_public=maybe", "accept_public: allowed is"),
        ("/api/v1/pools/simulate?src_lang=!", "src_lang: allowed is"),
        ("/api/v1/pools/simulate?tgt_lang=", "tgt_lang: allowed is"),
        ("/api/v1/pools/simulate?tenant=x", "tenant: there is no such filter"),
    ],
)
async def test_wrong_questions(path: str, words: str) -> None:
    status, body = await get(app_of(Desk()), path)
    assert status == 400
    assert words in body["error"]["message"]


@pytest.mark.parametrize("path", [*PLACES, *DRY_RUNS])
async def test_strangers_are_told_nothing(path: str) -> None:
    answer = await app_of(Desk()).test_client().get(path, scope_base=AWAY)
    assert answer.status_code == 401
