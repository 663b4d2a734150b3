"""The HTTP app of the public API: errors in one shape, health, a log line per request (gateway 9, 11)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import trio
from quart import Response, g, jsonify, request
from quart_trio import QuartTrio

from linguad import __version__, log, metrics
from linguad.gateway.access.admission import Admission
from linguad.web.app import create_app, request_id
from linguad.web.cors import add_cors
from linguad.web.problems import answer_problems

READY_FRESH_S = 2.0
"""How long an answer of `/health/ready` holds, so that probes cost nothing."""

READY_PATIENCE_S = 2.0
"""How long the parts may take to say how they are; the usual probe waits no longer than a few seconds."""

OK = "ok"

UNKNOWN = "unknown"
"""Route of a request that no route takes, and its method in metrics."""

CLIENT_GONE = 499
"""Status of a request whose client went away, in logs and metrics only."""

logger = log.get(__name__)


class Health(Protocol):
    """What the daemon tells about what the API needs."""

    async def checks(self) -> Mapping[str, str]:
        """How each of `scheduler`, `store` and `rate_store` is: `ok`, or what is wrong in a word or two."""
        ...


def create_gateway_app(admission: Admission, health: Health) -> QuartTrio:
    """The app with health routes, on which the parts of the API serve their own."""
    app = create_app("linguad.gateway")
    answer_problems(app)
    _log_requests(app)
    add_cors(app, admission.origins.knows)
    _add_health_routes(app, health)
    return app


def _add_health_routes(app: QuartTrio, health: Health) -> None:
    known: dict[str, str] = {}
    known_until = -1.0

    @app.get("/health")
    async def healthy() -> Response:
        return Response("OK", content_type="text/plain; charset=utf-8")

    @app.get("/health/live")
    async def live() -> Response:
        return Response("OK", content_type="text/plain; charset=utf-8")

    @app.get("/health/ready")
    async def ready() -> Response:
        nonlocal known, known_until
        if trio.current_time() >= known_until:
            checks = {"checks": "no answer in time"}
            with trio.move_on_after(READY_PATIENCE_S):
                checks = dict(await health.checks())
            known, known_until = checks, trio.current_time() + READY_FRESH_S
        is_ready = all(state == OK for state in known.values())
        status = "ready" if is_ready else "not_ready"
        response = jsonify({"status": status, "checks": known, "version": __version__})
        response.status_code = 200 if is_ready else 503
        return response


def _log_requests(app: QuartTrio) -> None:
    """Count and log every request when it is answered, or when its client has gone (status 499)."""

    @app.before_request
    async def begin() -> None:
        g.began_at = trio.current_time()

    @app.after_request
    async def answered(answer: Response) -> Response:
        g.answered = True
        _tell(answer.status_code)
        return answer

    @app.teardown_request
    async def ended(_error: BaseException | None) -> None:
        if "began_at" in g and "answered" not in g:
            _tell(CLIENT_GONE)


def _tell(status: int) -> None:
    route = str(request.url_rule) if request.url_rule else UNKNOWN
    # a caller can make up methods, and metrics must not grow by them
    method = request.method if request.url_rule else UNKNOWN
    seconds = trio.current_time() - g.began_at
    metrics.GATEWAY_REQUESTS.labels(route, method, status).inc()
    if request.path.startswith("/health"):
        return
    if status != CLIENT_GONE:
        metrics.GATEWAY_SECONDS.labels(route, method).observe(seconds)
    who = g.get("caller")
    logger.info(
        "api_request",
        request_id=request_id(),
        trace=g.get("trace_id"),
        tenant=who and who.tenant.id,
        key_id=who and who.key_id,
        method=request.method,
        route=route,
        status=status,
        seconds=round(seconds, 4),
        bytes_in=request.content_length,
    )
