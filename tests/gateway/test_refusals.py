"""What the store refuses is an answer, also where several parts of one app ask for that."""

from __future__ import annotations

import pytest

from linguad.core.accounts import ConflictError, NotFoundError
from linguad.errors import StoreError
from linguad.gateway.refusals import answer_refusals
from linguad.web.app import create_app
from linguad.web.problems import answer_problems


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotFoundError("There is no such thing."), 404, "not_found"),
        (ConflictError("It is taken."), 409, "conflict"),
        (StoreError("/secret/path is away"), 503, "store_unavailable"),
    ],
)
async def test_refusals_of_the_store(error: Exception, status: int, code: str) -> None:
    app = create_app("test")
    answer_problems(app)
    answer_refusals(app)
    answer_refusals(app)

    @app.get("/")
    async def view() -> str:
        raise error

    answer = await app.test_client().get("/")
    assert answer.status_code == status
    told = (await answer.get_json())["error"]
    assert (told["code"], told["retryable"]) == (code, status == 503)
    assert "secret" not in told["message"]
