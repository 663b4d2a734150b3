"""The Quart-Trio app that every HTTP part starts from: JSON errors, request ids, limits.

No service of the daemon may run on `app.nursery`: a crash there is swallowed while HTTP goes on (trap T6).
"""

from __future__ import annotations

import re
import uuid

from quart import Response, g, jsonify, request
from quart.json.provider import DefaultJSONProvider
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from linguad import log

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Largest request body; routes that take more read it themselves (resolutions 45)."""

BODY_SECONDS = 30
"""How long a request body may take to come."""

REQUEST_ID = "X-Request-Id"
_SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

logger = log.get(__name__)


def create_app(name: str) -> QuartTrio:
    """An app without routes, which answers every error as `{"error": {"code", "message", "request_id"}}`."""
    app = QuartTrio(name, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["BODY_TIMEOUT"] = BODY_SECONDS
    app.url_map.strict_slashes = False
    # people read answers, too: texts as they are, members in the order of the documents
    app.json = DefaultJSONProvider(app)
    app.json.ensure_ascii = app.json.sort_keys = False

    # Quart runs hooks that are not async in a thread each.
    @app.before_request
    async def take_request_id() -> None:
        g.request_id = request_id_of(request.headers.get(REQUEST_ID, ""))

    @app.after_request
    async def give_request_id(response: Response) -> Response:
        response.headers[REQUEST_ID] = request_id()
        return response

    @app.errorhandler(HTTPException)
    async def on_http_error(error: HTTPException) -> Response:
        response = error.get_response()
        code = error.name.lower().replace(" ", "_").replace("'", "")
        answer = error_body(code, error.description or error.name, error.code or 500)
        for header, value in response.headers.items():
            # Allow, Location, Retry-After and the like belong to the error; the HTML body does not.
            if header.lower() not in ("content-type", "content-length"):
                answer.headers[header] = value
        return answer

    @app.errorhandler(Exception)
    async def on_crash(error: Exception) -> Response:
        logger.error("http_crashed", app=name, path=request.path, request_id=request_id(), exc_info=error)
        return error_body("internal_error", "Something went wrong inside linguad.", 500)

    return app


def request_id_of(given: str) -> str:
    """The id that a caller gave to its request, if it is sane, else a new one."""
    return given if _SANE_ID.fullmatch(given) else str(uuid.uuid4())


def request_id() -> str:
    """The id of the request being answered."""
    if "request_id" not in g:
        g.request_id = request_id_of("")
    return str(g.request_id)


def error_body(code: str, message: str, status: int) -> Response:
    """An error answer in the shape that all HTTP parts share."""
    response = jsonify({"error": {"code": code, "message": message, "request_id": request_id()}})
    response.status_code = status
    return response
