"""What the store refuses, as answers of the public API (gateway 11.2)."""

from __future__ import annotations

from quart import Response
from quart_trio import QuartTrio

from linguad.core.accounts import ConflictError, NotFoundError
from linguad.errors import StoreError
from linguad.web.problems import Problem, answer


def answer_refusals(app: QuartTrio) -> None:
    """Answer what views let through of the store; every part that has such views asks for it.

    The handlers return their answers: what a handler raises is a crash to the framework.
    """

    @app.errorhandler(StoreError)
    async def on_store(_error: StoreError) -> Response:
        message = "What is asked for cannot be looked up or kept now; try again."
        return answer(Problem(503, "store_unavailable", message, headers={"Retry-After": "5"}))

    @app.errorhandler(ConflictError)
    async def on_conflict(error: ConflictError) -> Response:
        return answer(Problem(409, "conflict", str(error), retryable=False))

    @app.errorhandler(NotFoundError)
    async def on_missing(error: NotFoundError) -> Response:
        return answer(Problem(404, "not_found", str(error)))
