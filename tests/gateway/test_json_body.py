"""JSON bodies: what is wrong is told by the field."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest
from quart import Response, jsonify
from quart_trio import QuartTrio

from linguad.web.app import create_app
from linguad.web.body import json_body
from linguad.web.problems import answer_problems


class Part(msgspec.Struct, forbid_unknown_fields=True):
    size: int = 0


class Wish(msgspec.Struct, forbid_unknown_fields=True):
    count: Annotated[int, msgspec.Meta(ge=1, le=9)] = 1
    names: list[str] = []
    part: Part | None = None


@pytest.fixture
def app() -> QuartTrio:
    app = create_app("test")
    answer_problems(app)

    @app.post("/")
    async def take() -> Response:
        wish = await json_body(Wish)
        return jsonify(msgspec.to_builtins(wish))

    return app


async def send(app: QuartTrio, data: bytes) -> tuple[int, Any]:
    answer = await app.test_client().post("/", data=data)
    return answer.status_code, await answer.get_json()


@pytest.mark.parametrize("data", [b"", b"{}", b' {"count": 1} '])
async def test_what_is_right(app: QuartTrio, data: bytes) -> None:
    assert await send(app, data) == (200, {"count": 1, "names": [], "part": None})


@pytest.mark.parametrize("data", [b"{", b"[]", b"null", b'"x"', b"\xff", b'{"names":["\xff"]}', b"[" * 5000])
async def test_what_is_no_object(app: QuartTrio, data: bytes) -> None:
    status, body = await send(app, data)
    assert (status, body["error"]["code"]) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("data", "field", "reason"),
    [
        (b'{"count": 0}', "count", "Expected `int` >= 1"),
        (b'{"count": true}', "count", "Expected `int`, got `bool`"),
        (b'{"names": [1]}', "names[0]", "Expected `str`, got `int`"),
        (b'{"cuont": 1}', "cuont", "there is no such field"),
        (b'{"part": {"a": 1}}', "part.a", "there is no such field"),
        (b'{"part": []}', "part", "Expected `object | null`, got `array`"),
        (b'{"' + b"x" * 1000 + b'": 1}', "x" * 64, "there is no such field"),
    ],
)
async def test_wrong_members(app: QuartTrio, data: bytes, field: str, reason: str) -> None:
    status, body = await send(app, data)
    assert (status, body["error"]["code"]) == (422, "invalid_field")
    assert body["error"]["details"] == [{"field": field, "reason": reason}]
