"""`/api/v1/explain`, and the reasons on `/api/v1/nodes`."""

from __future__ import annotations

from typing import Any

import pytest
from core.support import Desk, services
from quart_trio import QuartTrio

from linguad.core.node import Node
from linguad.net.http import PEER
from linguad.net.peer import Peer
from linguad.ops.explain import add_explain_routes
from linguad.ops.nodes import add_node_routes
from linguad.web.app import create_app

LOCAL = {PEER: Peer("127.0.0.1", 4, "http")}
AWAY = {PEER: Peer("198.51.100.7", 4, "https")}


class Instance:
    """A daemon without tasks."""

    def __init__(self) -> None:
        self.desk = Desk()

    def explain(self, name: str) -> list[dict[str, object]]:
        return self.desk.dispatch.explain(name, self.desk.now)

    def nodes(self) -> list[tuple[Node, int]]:
        return [(node, self.desk.used(node.id)) for node in self.desk.fleet.nodes.values()]


@pytest.fixture
def instance() -> Instance:
    return Instance()


@pytest.fixture
def app(instance: Instance) -> QuartTrio:
    app = create_app("test")
    add_explain_routes(app, instance, "secret")
    add_node_routes(app, instance, "secret")
    return app


async def get(app: QuartTrio, path: str, **headers: str) -> tuple[int, Any]:
    """Status and body for somebody on this machine."""
    answer = await app.test_client().get(path, scope_base=LOCAL, headers=headers)
    return answer.status_code, await answer.get_json()


async def test_waiting_job_with_its_candidates(app: QuartTrio, instance: Instance) -> None:
    desk = instance.desk
    desk.node("bob/1", installed_services=services("asr", "nmt"))
    job = desk.submit(2, "s-7")
    for name in (job.id, "s-7:2", "s-7%3A2", "t-1"):
        status, body = await get(app, f"/api/v1/explain/{name}")
        assert (status, [one["job_id"] for one in body["jobs"]]) == (200, [job.id])
    now = body["jobs"][0]["now"]
    assert (now["reason"], now["missing_types"]) == ("model_not_available", {"tts": "no_impl"})
    assert now["candidates"][0] == {
        "node_id": "bob/1",
        "status": "ready",
        "pool": None,
        "veto": "model_not_available",
        "missing_types": {"tts": "no_impl"},
        "failed_before": False,
        "excluded": False,
        "overloaded": False,
        "slots": 4,
        "slots_used": 0,
        "finish_s": None,
        "speed": None,
        "backlog_s": None,
        "penalty_s": None,
        "sticky": False,
        "selected": False,
        "class": None,
        "shard": None,
        "rank": None,
    }


async def test_unknown_job_says_what_to_give(app: QuartTrio) -> None:
    status, body = await get(app, "/api/v1/explain/job-9")
    assert (status, body["error"]["code"]) == (404, "job_not_found")
    assert "SESSION:INDEX" in body["error"]["message"]


async def test_needs_the_token(app: QuartTrio, instance: Instance) -> None:
    job = instance.desk.submit()
    client = app.test_client()
    for headers, status in (({}, 401), ({"Authorization": "Bearer secret"}, 200)):
        answer = await client.get(f"/api/v1/explain/{job.id}", scope_base=AWAY, headers=headers)
        assert answer.status_code == status
    assert (await get(app, f"/api/v1/explain/{job.id}", Authorization="Bearer wrong"))[0] == 401


async def test_owner_sees_why_his_node_gets_no_work(app: QuartTrio, instance: Instance) -> None:
    instance.desk.node("a", installed_services=services("asr", "nmt"))
    instance.desk.submit()
    instance.desk.wait(11.0)
    _, body = await get(app, "/api/v1/nodes")
    assert body["nodes"][0]["no_work_reasons"] == {"model_not_available": 1}
