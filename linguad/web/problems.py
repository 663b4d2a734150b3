"""Errors of the public APIs: one shape, stable codes, and what helps the caller further (gateway 11.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quart import Response, jsonify, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from linguad import log
from linguad.web.app import request_id

RETRYABLE = frozenset({408, 409, 429, 502, 503, 504})
"""Statuses after which the same request may succeed later, unless its problem says otherwise."""

CODES = {400: "bad_request", 408: "request_timeout", 413: "payload_too_large", 415: "unsupported_media_type"}
"""Codes of errors that the framework finds; the others are called as in HTTP."""

logger = log.get(__name__)


class Problem(Exception):
    """An answer that is an error; raise it anywhere below a view.

    `code` is stable snake_case, `message` one English sentence that names the cure and nothing internal.
    `details` is a list of `{"field", "reason"}` for input that is wrong, or a small object.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retryable: bool | None = None,
        details: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retryable = status in RETRYABLE if retryable is None else retryable
        self.details = details
        self.headers = dict(headers or {})

    @classmethod
    def wrong_field(cls, field: str, reason: str, code: str = "invalid_field", status: int = 422) -> Problem:
        """A value that cannot be used; `reason` says what is allowed."""
        return cls(status, code, f"{field}: {reason}", details=[{"field": field, "reason": reason}])

    def body(self, request_id: str, trace_id: str | None = None) -> dict[str, Any]:
        """The JSON body of the answer."""
        error: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "status": self.status,
            "request_id": request_id,
            "retryable": self.retryable,
        }
        if trace_id is not None:
            error["trace_id"] = trace_id
        if self.details is not None:
            error["details"] = self.details
        return {"error": error}


def answer(problem: Problem) -> Response:
    """The answer that is a problem, to the request at hand."""
    response = jsonify(problem.body(request_id()))
    response.status_code = problem.status
    response.headers.extend(problem.headers)
    return response


def answer_problems(app: QuartTrio) -> None:
    """Let an app answer every `Problem` that its views raise, and all other errors in the same shape."""

    @app.errorhandler(Problem)
    async def on_problem(problem: Problem) -> Response:
        return answer(problem)

    @app.errorhandler(HTTPException)
    async def on_http_error(error: HTTPException) -> Response:
        status = error.code or 500
        code = CODES.get(status) or error.name.lower().replace(" ", "_").replace("'", "")
        kept = {
            # Allow, Location, Retry-After and the like belong to the error; the HTML body does not.
            name: value
            for name, value in error.get_response().headers.items()
            if name.lower() not in ("content-type", "content-length")
        }
        return answer(Problem(status, code, error.description or error.name, headers=kept))

    @app.errorhandler(Exception)
    async def on_crash(error: Exception) -> Response:
        logger.error("http_crashed", app=app.name, path=request.path, request_id=request_id(), exc_info=error)
        return answer(Problem(500, "internal_error", "Something went wrong inside linguad."))
