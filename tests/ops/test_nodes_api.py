"""`/api/v1/nodes`: the list and its filters, the page of a node, what an operator says, pairing codes."""

from __future__ import annotations

from typing import Any

import pytest
from core.support import Desk, languages, services
from quart_trio import QuartTrio

from linguad.core.dispatch import Dispatch
from linguad.core.node import Node
from linguad.core.pairing import LiveCode
from linguad.core.rules import NodeRules
from linguad.net.http import PEER
from linguad.net.peer import Peer
from linguad.ops.node_page import SHOWN_ATTEMPTS
from linguad.ops.nodes import add_node_routes
from linguad.web.app import create_app
from linguad.wire.common import FeatureFlags
from linguad.wire.node import GpuInfo, HardwareInfo
from linguad.wire.override import Override

LOCAL = {PEER: Peer("127.0.0.1", 4, "http")}
AWAY = {PEER: Peer("198.51.100.7", 4, "https")}
EPOCH_S = 1_700_000_000


class Instance:
    """A daemon without tasks."""

    def __init__(self) -> None:
        self.desk = Desk(NodeRules(overrides={"c": Override(cap=2, note="Under the desk")}))
        self.sessions: dict[str, list[str]] = {}

    @property
    def dispatch(self) -> Dispatch:
        return self.desk.dispatch

    def now(self) -> float:
        return self.desk.now

    def epoch_ms(self, now: float) -> int:
        return int((EPOCH_S + now) * 1000)

    def nodes(self) -> list[tuple[Node, int]]:
        return [(node, self.desk.used(node.id)) for node in self.desk.fleet.nodes.values()]

    def override(self, node_id: str, said: Override) -> bool:
        if self.desk.fleet.nodes[node_id].owner:
            return False
        self.desk.dispatch.override(node_id, said, self.desk.now)
        return True

    def pairing_code(self, node_id: str) -> LiveCode:
        return self.desk.fleet.pairing.create(node_id, self.desk.now)

    def paired_with(self, node_id: str) -> list[str]:
        return self.sessions.get(node_id, [])


@pytest.fixture
def instance() -> Instance:
    return Instance()


@pytest.fixture
def desk(instance: Instance) -> Desk:
    return instance.desk


@pytest.fixture
def app(instance: Instance) -> QuartTrio:
    app = create_app("test")
    add_node_routes(app, instance, "secret")
    return app


async def ask(app: QuartTrio, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and body for somebody on this machine."""
    given: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
    if body is None:
        given = {}
    answer = await app.test_client().open(
        f"/api/v1/nodes{path}", method=method, scope_base=LOCAL, headers={}, **given
    )
    return answer.status_code, await answer.get_json()


async def get(app: QuartTrio, path: str) -> Any:
    """The body of a page that is there."""
    status, body = await ask(app, "GET", path)
    assert status == 200
    return body


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["a", "b", "c", "d"]),
        ("?src=en&tgt=es", ["a", "c"]),
        ("?src=EN-us&tgt=es", ["a", "c"]),
        ("?src=es&tgt=fr", []),
        ("?src=fr", ["b"]),
        ("?tgt=de", ["b"]),
        ("?status=offline", ["c"]),
        ("?status=ready&q=A", ["a"]),
        ("?q=UNDER", ["c"]),
        ("?q=nobody", []),
    ],
)
async def test_list_is_narrowed_down(app: QuartTrio, desk: Desk, query: str, found: list[str]) -> None:
    desk.node("a")
    desk.node("b", "fr", "de")
    desk.node("c")
    desk.node("d", "en", "es", installed_services=services("asr", "nmt"))
    if "status" in query:
        desk.lose("c")
    assert [node["node_id"] for node in (await get(app, query))["nodes"]] == found


@pytest.mark.parametrize(
    ("query", "named", "cure"),
    [
        ("?status=asleep", "status", "ready, degraded"),
        ("?src=auto", "src", "such as en"),
        ("?src=e%20n", "src", "such as en"),
        ("?tgt=", "tgt", "such as es"),
        ("?q=" + "x" * 129, "q", "128"),
        ("?language=en", "language", "src, tgt, status, q"),
    ],
)
async def test_wrong_filter_is_named_with_the_cure(app: QuartTrio, query: str, named: str, cure: str) -> None:
    status, body = await ask(app, "GET", query)
    assert (status, body["error"]["code"]) == (400, "invalid_value")
    assert body["error"]["message"].startswith(f"{named}: ")
    assert cure in body["error"]["message"]


async def test_page_of_a_node(app: QuartTrio, instance: Instance, desk: Desk) -> None:
    hardware = HardwareInfo(cpu_cores=8, gpus=[GpuInfo(name="GPU-X", memory_gb=24)])
    desk.node("bob/1", hardware=hardware, features_supported=FeatureFlags(emotion_detection=True))
    first = desk.submit(0, seconds=6.0)
    desk.now += 2.0
    desk.answer(first.attempts[0], processing_time_ms=2000)
    running = desk.submit(1)
    desk.now += 1.0
    instance.sessions["bob/1"] = ["s-9"]
    code = instance.pairing_code("bob/1")
    page = await get(app, "/bob%2F1")
    (entry,) = (await get(app, ""))["nodes"]
    assert entry.items() <= page.items()
    pair = {"src": "en", "tgt": "es", "services": ["asr", "nmt", "tts"], "two_way": False, "features": []}
    expected = {
        "node_id": "bob/1",
        "status": "ready",
        "slots_used": 1,
        "generation": "current",
        "features": ["emotion_detection"],
        "override": {"said": {}, "configured": {}},
        "health": {
            "state": "ready",
            "on_probation": False,
            "failed_probations": 0,
            "quarantine_left_s": 0.0,
            "heartbeat_age_s": 3.0,
        },
        "idle_reason": None,
        "idle_message": None,
        "index_keys": [pair | {"speed": 3.0, "pool": 0}],
        "learned_speeds": [pair | {"speed": 3.0}],
        "stage_speeds": [],
        "missing_types": {},
        "last_attempts": [
            {
                "job_id": running.id,
                "number": 1,
                "chosen": "session",
                "state": "dispatched",
                "end": None,
                "seconds": None,
            },
            {
                "job_id": first.id,
                "number": 1,
                "chosen": "best",
                "state": "finished",
                "end": "ok",
                "seconds": 2.0,
            },
        ],
        "pairing_code": {
            "node_id": "bob/1",
            "code": code.code,
            "expires_at_ms": int((EPOCH_S + code.expires_at) * 1000),
        },
        "paired_sessions": ["s-9"],
    }
    assert {name: page[name] for name in expected} == expected
    assert page["hardware"]["gpus"] == [{"name": "GPU-X", "memory_gb": 24}]
    assert "hola" not in str(page)
    assert "hello" not in str(page)


async def test_only_the_last_attempts_are_shown(app: QuartTrio, desk: Desk) -> None:
    desk.node("a", cap=64)
    for number in range(SHOWN_ATTEMPTS + 5):
        desk.now += 0.01
        last = desk.submit(0, f"s-{number}")
    shown = (await get(app, "/a"))["last_attempts"]
    assert len(shown) == SHOWN_ATTEMPTS
    assert shown[0]["job_id"] == last.id


async def test_page_says_why_a_node_gets_no_work(app: QuartTrio, desk: Desk) -> None:
    desk.node("a", installed_services=services("asr", "nmt"))
    desk.submit()
    desk.wait(11.0)
    page = await get(app, "/a")
    assert page["no_work_reasons"] == {"model_not_available": 1}
    assert page["missing_types"] == {"tts:no_impl": 1}
    desk.node("mute", language_capabilities=languages())
    page = await get(app, "/mute")
    assert page["idle_reason"] == "no_language_pair"
    assert "install" in page["idle_message"]
    desk.lose("a")
    page = await get(app, "/a")
    assert (page["status"], page["idle_reason"]) == ("offline", "offline")


async def test_page_shows_the_quarantine(app: QuartTrio, desk: Desk) -> None:
    desk.node("a")
    health = desk.fleet.nodes["a"].health
    health.on_probation, health.failed_probations, health.quarantined_until = True, 1, desk.now + 30
    desk.now += 10.0
    shown = (await get(app, "/a"))["health"]
    assert (shown["on_probation"], shown["failed_probations"]) == (True, 1)
    assert (shown["quarantine_left_s"], shown["heartbeat_age_s"]) == (20.0, 10.0)


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("PATCH", ""), ("POST", "/pairing-code")])
async def test_unknown_node(app: QuartTrio, method: str, path: str) -> None:
    status, body = await ask(app, method, f"/nobody{path}", b"{}" if method == "PATCH" else None)
    assert (status, body["error"]["code"]) == (404, "node_not_found")
    assert "GET /api/v1/nodes" in body["error"]["message"]


async def test_operator_speaks_and_takes_back(app: QuartTrio, desk: Desk) -> None:
    desk.node("c", cap=9)
    said = {"cap": 5, "drain": True, "weight": 0.5, "note": "Fan is loud"}
    status, page = await ask(app, "PATCH", "/c", said)
    assert status == 200
    assert page == await get(app, "/c")
    assert (page["slots"], page["status"], page["weight"], page["note"]) == (
        5,
        "draining",
        0.5,
        "Fan is loud",
    )
    configured = {"cap": 2, "note": "Under the desk"}
    assert page["override"] == {"said": said, "configured": configured}
    assert page["idle_reason"] == "draining"
    _, page = await ask(app, "PATCH", "/c", {"drain": None, "cap": None})
    assert (page["slots"], page["status"], page["weight"]) == (2, "ready", 0.5)
    _, page = await ask(app, "PATCH", "/c", {"weight": None, "note": None})
    assert page["override"] == {"said": {}, "configured": configured}
    assert (page["weight"], page["note"]) == (1.0, "Under the desk")
    assert (await ask(app, "PATCH", "/c", {}))[0] == 200


@pytest.mark.parametrize(
    ("body", "named", "allowed"),
    [
        ({"cap": 0}, "cap", "1 to 64"),
        ({"cap": 65}, "cap", "1 to 64"),
        ({"cap": "4"}, "cap", "1 to 64"),
        ({"cap": True}, "cap", "1 to 64"),
        ({"drain": 1}, "drain", "true or false"),
        ({"weight": 0.04}, "weight", "0.05 to 20"),
        ({"weight": 20.5}, "weight", "0.05 to 20"),
        ({"note": "x" * 501}, "note", "500"),
        ({"note": 3}, "note", "500"),
        ({"cap": 3, "colour": "red"}, "colour", "cap, drain, weight, note"),
        ([], "The body", "an object with any of cap"),
        (b"{", "The body", "an object with any of cap"),
        (b"", "The body", "an object with any of cap"),
        (b"[" * 100_000, "The body", "an object with any of cap"),
        (b'"\xff"', "The body", "an object with any of cap"),
    ],
)
async def test_what_cannot_be_said_changes_nothing(
    app: QuartTrio, desk: Desk, body: Any, named: str, allowed: str
) -> None:
    desk.node("a")
    status, answer = await ask(app, "PATCH", "/a", body)
    assert (status, answer["error"]["code"]) == (400, "invalid_value")
    assert answer["error"]["message"].startswith(named)
    assert allowed in answer["error"]["message"]
    assert desk.fleet.nodes["a"].said == Override()


@pytest.mark.parametrize("said", [{"cap": 1}, {"cap": 64}, {"weight": 0.05}, {"weight": 20}])
async def test_bounds_are_allowed(app: QuartTrio, desk: Desk, said: dict[str, Any]) -> None:
    desk.node("a")
    assert (await ask(app, "PATCH", "/a", said))[0] == 200
    assert desk.fleet.nodes["a"].said == Override(**said)


async def test_pairing_code_for_the_owner(app: QuartTrio, desk: Desk) -> None:
    desk.node("bob/1")
    status, body = await ask(app, "POST", "/bob%2F1/pairing-code")
    live = desk.fleet.pairing.of("bob/1", desk.now)
    assert live is not None
    expires = int((EPOCH_S + live.expires_at) * 1000)
    assert (status, body) == (200, {"node_id": "bob/1", "code": live.code, "expires_at_ms": expires})
    desk.lose("bob/1")
    status, body = await ask(app, "POST", "/bob%2F1/pairing-code")
    assert (status, body["error"]["code"]) == (409, "node_offline")


async def test_a_page_from_elsewhere_does_not_act_in_the_operators_name(app: QuartTrio, desk: Desk) -> None:
    """A browser on the server's machine sends where its page is from."""
    desk.node("a")
    page = {"Origin": "https://evil.example"}
    answer = await app.test_client().open(
        "/api/v1/nodes/a", method="PATCH", scope_base=LOCAL, headers=page, data=b'{"drain": true}'
    )
    assert answer.status_code == 401
    assert not desk.dispatch.fleet.nodes["a"].override.drain


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:5010", 200),
        ("127.0.0.1", 200),
        ("[::1]:5010", 200),
        ("LOCALHOST", 200),
        ("evil.example:5010", 401),
    ],
)
async def test_a_name_that_leads_here_is_not_yet_this_machine(
    app: QuartTrio, desk: Desk, host: str, status: int
) -> None:
    """Somebody else's DNS may lead a browser on the server's machine to the server."""
    desk.node("a")
    answer = await app.test_client().open(
        "/api/v1/nodes/a", method="PATCH", scope_base=LOCAL, headers={"Host": host}, data=b'{"drain": true}'
    )
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("GET", "/a"), ("PATCH", "/a"), ("POST", "/a/pairing-code")]
)
async def test_needs_the_token(app: QuartTrio, desk: Desk, method: str, path: str) -> None:
    desk.node("a")
    client = app.test_client()
    for headers, status in (({}, 401), ({"Authorization": "Bearer secret"}, 200)):
        answer = await client.open(
            f"/api/v1/nodes{path}", method=method, scope_base=AWAY, headers=headers, data=b"{}"
        )
        assert answer.status_code == status
