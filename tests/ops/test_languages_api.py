"""`/api/v1/languages`: what everybody may know of what is served."""

from __future__ import annotations

from typing import Any

import pytest
from core.support import Desk
from quart_trio import QuartTrio

from linguad.core.coverage import Coverage, Served
from linguad.net.http import PEER
from linguad.net.peer import Peer
from linguad.ops.languages import add_language_routes
from linguad.web.app import create_app

AWAY = {PEER: Peer("198.51.100.7", 4, "https")}


class Fleet:
    """Nodes of a desk."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.coverage = Coverage(self.desk.fleet)

    def languages(self) -> list[Served]:
        return self.coverage.pairs(self.desk.now)


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def app(fleet: Fleet) -> QuartTrio:
    app = create_app("test")
    add_language_routes(app, fleet)
    return app


async def ask(app: QuartTrio, query: str = "") -> tuple[int, Any]:
    """Status and body for somebody far away, without a token."""
    answer = await app.test_client().get(f"/api/v1/languages{query}", scope_base=AWAY)
    assert answer.content_type == "application/json"
    return answer.status_code, await answer.get_json()


async def test_everybody_may_ask(app: QuartTrio, fleet: Fleet) -> None:
    assert await ask(app) == (200, {"pairs": [], "sources": [], "targets": []})
    fleet.desk.node("a", "en", "es", cap=3)
    fleet.desk.node("b", "en", "fr")
    fleet.desk.submit(0, tgt="es")
    fleet.desk.now += 5.0
    assert await ask(app) == (
        200,
        {
            "pairs": [
                {"src": "en", "tgt": "es", "ready_nodes": 1, "free_slots": 2},
                {"src": "en", "tgt": "fr", "ready_nodes": 1, "free_slots": 4},
                {"src": "es", "tgt": "en", "ready_nodes": 1, "free_slots": 2},
                {"src": "fr", "tgt": "en", "ready_nodes": 1, "free_slots": 4},
            ],
            "sources": ["en", "es", "fr"],
            "targets": ["en", "es", "fr"],
        },
    )


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?src=en", ["en>es", "en>fr"]),
        ("?tgt=en", ["es>en", "fr>en"]),
        ("?src=EN-us&tgt=es", ["en>es"]),
        ("?src=es&tgt=fr", []),
        ("?src=zh", []),
    ],
)
async def test_pairs_are_narrowed_down(app: QuartTrio, fleet: Fleet, query: str, found: list[str]) -> None:
    fleet.desk.node("a", "en", "es")
    fleet.desk.node("b", "en", "fr")
    _, body = await ask(app, query)
    assert [f"{one['src']}>{one['tgt']}" for one in body["pairs"]] == found
    assert body["sources"] == sorted({pair.partition(">")[0] for pair in found})
    assert body["targets"] == sorted({pair.partition(">")[2] for pair in found})


@pytest.mark.parametrize(
    ("query", "named", "cure"),
    [
        ("?src=auto", "src", "such as en"),
        ("?src=e%20n", "src", "such as en"),
        ("?tgt=", "tgt", "such as es"),
        ("?tgt=" + "x" * 129, "tgt", "leave it out"),
        ("?source=en", "source", "src, tgt"),
    ],
)
async def test_wrong_filter_is_named_with_the_cure(app: QuartTrio, query: str, named: str, cure: str) -> None:
    status, body = await ask(app, query)
    assert (status, body["error"]["code"]) == (400, "invalid_value")
    assert body["error"]["message"].startswith(f"{named}: ")
    assert cure in body["error"]["message"]
