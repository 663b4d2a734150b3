"""`/openapi.json` and `/docs`: the routes of the hub, described for people and programs."""

from __future__ import annotations

import html
from typing import Any, NamedTuple

import msgspec

from linguad.core.tenant import Scope
from linguad.hub.records import ModelInfo, ServiceInfo, Signature, VariantInfo, VersionInfo

TITLE = "Lingua Model Hub"


class Route(NamedTuple):
    """One route; `scope` is what a key needs, None where everybody may."""

    method: str
    path: str
    summary: str
    query: tuple[str, ...] = ()
    scope: Scope | None = None
    answer: type | None = None
    several: bool = False


_MODEL, _VERSION = "/api/models/{model_id}", "/api/models/{model_id}/versions/{version}"
_ADMIN_MODEL = "/api/admin/models/{model_id}"
_ADMIN_SERVICE = "/api/admin/services/{service_id}"
_ADMIN_VERSION = f"{_ADMIN_MODEL}/versions/{{version}}"
_ADMIN_PACKAGE = f"{_ADMIN_SERVICE}/{{version}}/{{platform}}"
_UPLOAD = "/api/admin/uploads/{upload_id}"
_LISTED = ("task", "language", "q", "status", "include_yanked", "limit", "cursor")
_USAGE, _PUBLISH, _SIGN = Scope.HUB_USAGE, Scope.HUB_PUBLISH, Scope.HUB_SIGN
_VERSIONS, _ADMIN = Scope.HUB_VERSIONS, Scope.HUB_ADMIN

ROUTES = (
    Route("GET", "/", "What this is"),
    Route("GET", "/health", "Whether the hub lives"),
    Route("GET", "/health/ready", "Whether the hub can serve; 503 with reasons if not"),
    Route("GET", "/metrics", "Metrics of the process, for Prometheus"),
    Route("GET", "/api/models", "All models", _LISTED, answer=ModelInfo, several=True),
    Route("GET", _MODEL, "One model", answer=ModelInfo),
    Route("GET", f"{_MODEL}/versions", "All versions of a model, newest first", ("status",)),
    Route("GET", _VERSION, "One version, also by `default`, `latest` or a channel", answer=VersionInfo),
    Route("GET", f"{_VERSION}/manifest", "Its files with their digests"),
    Route("GET", f"{_VERSION}/delta", "What to fetch when another version is there", ("from",)),
    Route("GET", "/api/services", "All packages", ("platform", "service_id", "version", "status")),
    Route("GET", "/api/services/{service_id}", "One service", answer=ServiceInfo),
    Route("GET", "/api/services/{service_id}/{version}/{platform}", "One package", answer=VariantInfo),
    Route("GET", "/api/services/{service_id}/{version}/checksum", "Its digest", ("platform",)),
    Route("GET", "/api/keys", "Public keys whose signatures are accepted"),
    Route("GET", "/api/sync/manifest", "What changed since a cursor", ("platform", "task", "since", "wait")),
    Route("GET", "/storage/models/{model_id}/{version}/{path}", "A file of a model", ("direct", "format")),
    Route("GET", "/storage/services/{service_id}/{version}/{platform}/service.zip", "A package", ("direct",)),
    Route("GET", "/storage/services/{service_id}/{version}.zip", "302 to a package", ("platform",)),
    Route("GET", "/api/model-usage/ranking", "Models by use", ("window", "task", "metric", "limit")),
    Route("GET", "/api/service-usage/ranking", "Packages by use", ("window", "metric", "limit")),
    Route("GET", "/api/model-usage/{model_id}", "Use of a model over time", ("granularity", "from", "to")),
    Route("POST", "/api/model-usage/events", "Tell what was used", (), _USAGE),
    Route("PUT", _ADMIN_MODEL, "Describe a model", (), _PUBLISH, ModelInfo),
    Route("POST", f"{_ADMIN_MODEL}/versions", "Begin to upload a version", (), _PUBLISH),
    Route("DELETE", _ADMIN_VERSION, "Delete a version", (), _ADMIN),
    Route("POST", f"{_ADMIN_SERVICE}/versions", "Begin to upload a package", (), _PUBLISH),
    Route("POST", _ADMIN_PACKAGE, "Publish a package", (), _PUBLISH, VariantInfo),
    Route("DELETE", _ADMIN_PACKAGE, "Delete a package", (), _ADMIN),
    Route("GET", _UPLOAD, "How far an upload is", (), _PUBLISH),
    Route("DELETE", _UPLOAD, "Give an upload up", (), _PUBLISH),
    Route("HEAD", f"{_UPLOAD}/files/{{path}}", "How much of a file has come", (), _PUBLISH),
    Route("PATCH", f"{_UPLOAD}/files/{{path}}", "The next part of a file", (), _PUBLISH),
    Route("POST", f"{_UPLOAD}/commit", "Verify and publish", ("wait",), _PUBLISH),
    Route("PUT", f"{_ADMIN_MODEL}/default", "Choose the default version", (), _VERSIONS, ModelInfo),
    Route("PUT", f"{_ADMIN_MODEL}/channels/{{channel}}", "Choose a channel's version", (), _VERSIONS),
    Route("POST", f"{_ADMIN_VERSION}/deprecate", "Advise against a version", (), _VERSIONS),
    Route("POST", f"{_ADMIN_VERSION}/yank", "Take a version back", (), _VERSIONS),
    Route("PUT", f"{_ADMIN_SERVICE}/default", "Choose the default version", (), _VERSIONS, ServiceInfo),
    Route("PUT", f"{_ADMIN_SERVICE}/channels/{{channel}}", "Choose a channel's version", (), _VERSIONS),
    Route("POST", f"{_ADMIN_SERVICE}/{{version}}/deprecate", "Advise against a version", (), _VERSIONS),
    Route("POST", f"{_ADMIN_SERVICE}/{{version}}/yank", "Take a version back", (), _VERSIONS),
    Route("PUT", f"{_ADMIN_VERSION}/signature", "Sign a version", (), _SIGN),
    Route("PUT", f"{_ADMIN_PACKAGE}/signature", "Sign a package", (), _SIGN),
    Route("PUT", "/api/admin/keys/{key_id}", "Register, retire or revoke a signing key", (), _ADMIN),
    Route("POST", "/api/admin/rescan", "Look at the whole disk", (), _ADMIN),
    Route("GET", "/api/admin/problems", "What on the disk cannot be published", (), _ADMIN),
    Route("POST", "/api/admin/verify", "Hash published files again", ("model_id",), _ADMIN),
    Route("GET", "/api/admin/audit", "Who decided what", ("since", "limit"), _ADMIN),
)


def document(version: str) -> dict[str, Any]:
    """The OpenAPI document."""
    kinds = (ModelInfo, VersionInfo, ServiceInfo, VariantInfo, Signature)
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    components["Error"] = {
        "type": "object",
        "properties": {
            "detail": {"type": "string"},
            "error": {
                "type": "object",
                "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
            },
        },
        "required": ["detail"],
    }
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def page(version: str) -> str:
    """The routes as a page that needs nothing from elsewhere."""
    rows = "".join(
        f"<tr><td>{route.method}</td><td><code>{html.escape(route.path)}</code></td>"
        f"<td>{html.escape(route.summary)}</td><td>{', '.join(route.query)}</td>"
        f"<td>{route.scope.value if route.scope else ''}</td></tr>"
        for route in ROUTES
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{TITLE} {version}</title>"
        "<style>body{font:15px system-ui;margin:2em}td,th{padding:.3em .8em;text-align:left;"
        "border-bottom:1px solid #ddd}</style>"
        f"<h1>{TITLE} {version}</h1><p>For programs: <a href=/openapi.json>openapi.json</a>. "
        "Keys are sent as <code>Authorization: Bearer KEY</code>.</p>"
        "<table><tr><th>Method<th>Path<th>What<th>Query<th>Scope</tr>"
        f"{rows}</table></html>"
    )


def _operation(route: Route) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in route.path.replace("{", "}").split("}")[1::2]
    ] + [{"name": name, "in": "query", "schema": {"type": "string"}} for name in route.query]
    answer: dict[str, Any] = {"description": "Done"}
    if route.answer is not None:
        schema: dict[str, Any] = {"$ref": f"#/components/schemas/{route.answer.__name__}"}
        if route.several:
            schema = {"type": "array", "items": schema}
        answer["content"] = {"application/json": {"schema": schema}}
    error = {
        "description": "Error",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    operation: dict[str, Any] = {"summary": route.summary, "responses": {"2XX": answer, "default": error}}
    if parameters:
        operation["parameters"] = parameters
    if route.scope:
        operation["security"] = [{"key": []}]
        operation["description"] = f"Scope {route.scope.value}."
    return operation
