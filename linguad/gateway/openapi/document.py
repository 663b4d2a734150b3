"""The OpenAPI 3.1 document of the public API, made from a table of its operations (gateway 11.9).

Own code rather than quart-schema: that describes views by decorators which also read bodies and answer errors
in their own way, and its pages load scripts from other hosts. Here a table says what there is, msgspec makes
the schemas, and `mismatches` compares the table with the routes of the app.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from werkzeug.routing import Map

from linguad import __version__
from linguad.core.tenant import Scope
from linguad.gateway.openapi.answers import Error

JSON, FORM, TEXT = "application/json", "multipart/form-data", "text/plain; charset=utf-8"

_SCHEMAS = "#/components/schemas/{name}"

Document = dict[str, Any]


class Parameter(Struct, frozen=True, kw_only=True):
    """A parameter in the query, path or head of a request."""

    name: str
    type: Any
    description: str
    where: str = "query"
    required: bool = False


class Operation(Struct, frozen=True, kw_only=True):
    """One route with one method."""

    method: str
    path: str
    """With `{names}` in braces."""
    id: str
    summary: str
    tag: str
    scope: Scope | None = None
    """What the credential must be good for; None for any."""
    open: bool = False
    """Whether it needs no credential."""
    parameters: tuple[Parameter, ...] = ()
    request: Any = None
    """Type of the body; a form has its fields."""
    media: tuple[str, ...] = (JSON,)
    """Ways in which the body may be sent."""
    audio: bool = False
    """Whether the body also holds a file named `audio`."""
    json_fields: tuple[str, ...] = ()
    """Fields that hold JSON where the body is a form."""
    status: int = 200
    response: Any = None
    response_media: str = JSON
    others: Mapping[int, Any] = {}
    """Type of the body of answers with another status that are no errors; None for no body."""
    problems: tuple[tuple[int, str], ...] = ()
    """Status and code of its own errors, beside those that all share."""
    headers: Mapping[str, str] = {}
    """Headers of its answer, with what they say."""


CREDENTIAL: tuple[tuple[int, str], ...] = (
    (400, "multiple_credentials"),
    (401, "unauthorized"),
    (401, "invalid_credentials"),
    (403, "tenant_disabled"),
    (403, "insufficient_scope"),
    (403, "origin_not_allowed"),
    (403, "https_required"),
    (429, "rate_limited"),
    (503, "limits_unavailable"),
)
"""Errors of every operation with a credential (gateway 3.2)."""

COMMON: tuple[tuple[int, str], ...] = ((500, "internal_error"),)
"""Errors of every operation."""

_RATE = {
    "RateLimit-Limit": "Requests that may come at once.",
    "RateLimit-Remaining": "Requests that are left now.",
    "RateLimit-Reset": "Seconds until all are back.",
}
_RETRY = {"Retry-After": "Seconds to wait before the next try."}
_RETRIED = frozenset({429, 503})


def document(operations: Sequence[Operation], *, title: str = "linguad", server: str = "/") -> Document:
    """The whole OpenAPI document."""
    types = [each for operation in operations for each in _types(operation)]
    schemas, components = msgspec.json.schema_components([Error, *types], ref_template=_SCHEMAS)
    by_type = dict(zip(map(repr, [Error, *types]), schemas, strict=True))
    paths: dict[str, Document] = {}
    for operation in operations:
        described = _operation(operation, by_type)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__, "summary": "Speech in, translated speech out."},
        "servers": [{"url": server}],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in operations)],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key of your account."}
            },
            "headers": {name: _header(text) for name, text in {**_RATE, **_RETRY, **_ID}.items()},
        },
    }


def mismatches(url_map: Map, operations: Iterable[Operation], ignored: Iterable[str] = ()) -> list[str]:
    """What an app routes and the table does not have, and the other way round, as `GET /path: …`.

    `ignored` are paths that are meant to be in none: pages, scripts.
    """
    left_out = set(ignored)
    routed = {
        f"{method} {path}"
        for rule in url_map.iter_rules()
        if (path := re.sub(r"<(?:[^:>]*:)?([^>]+)>", r"{\1}", rule.rule)) not in left_out
        for method in (rule.methods or {"GET"}) - {"HEAD", "OPTIONS"}
    }
    known = {f"{operation.method} {operation.path}" for operation in operations}
    return sorted(
        [f"{route}: is routed but not documented" for route in routed - known]
        + [f"{route}: is documented but not routed" for route in known - routed]
    )


_ID = {"X-Request-Id": "Names the request in logs; yours, if you sent one."}


def _types(operation: Operation) -> list[Any]:
    parameters = [parameter.type for parameter in operation.parameters]
    bodies = (operation.request, operation.response, *operation.others.values())
    return [*parameters, *(each for each in bodies if each is not None)]


def _operation(operation: Operation, schemas: Mapping[str, Document]) -> Document:
    described: Document = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": _responses(operation, schemas),
    }
    if not operation.open:
        described["security"] = [{"key": []}]
        if operation.scope is not None:
            described["description"] = f"The key needs the scope `{operation.scope}`."
    if operation.parameters:
        described["parameters"] = [
            {
                "name": parameter.name,
                "in": parameter.where,
                "description": parameter.description,
                "required": parameter.required or parameter.where == "path",
                "schema": schemas[repr(parameter.type)],
            }
            for parameter in operation.parameters
        ]
    if operation.request is not None:
        content: Document = {media: {"schema": _body(operation, media, schemas)} for media in operation.media}
        if FORM in content and operation.json_fields:
            as_json = {"contentType": JSON}
            content[FORM]["encoding"] = dict.fromkeys(operation.json_fields, as_json)
        described["requestBody"] = {"required": True, "content": content}
    return described


def _body(operation: Operation, media: str, schemas: Mapping[str, Document]) -> Document:
    fields = schemas[repr(operation.request)]
    if not operation.audio:
        return fields
    if media == FORM:
        audio: Document = {"type": "string", "contentMediaType": "application/octet-stream"}
    else:
        audio = {"type": "string", "contentEncoding": "base64"}
    audio["description"] = "The sound, in the format that `audio_format` says."
    return {"allOf": [fields, {"type": "object", "properties": {"audio": audio}, "required": ["audio"]}]}


def _responses(operation: Operation, schemas: Mapping[str, Document]) -> Document:
    names = {**_ID, **({} if operation.open else _RATE)}
    responses: Document = {}
    for status, kind in {operation.status: operation.response, **operation.others}.items():
        responses[str(status)] = {
            "description": "Done." if status < 400 else "Not now.",
            "headers": {**_references(names), **_headers(operation.headers)},
        }
        if kind is not None:
            responses[str(status)]["content"] = {operation.response_media: {"schema": schemas[repr(kind)]}}
    codes: dict[int, list[str]] = {}
    shared = COMMON if operation.open else CREDENTIAL + COMMON
    for status, code in sorted({*shared, *operation.problems}):
        codes.setdefault(status, []).append(code)
    for status, named in codes.items():
        more = _RETRY if status in _RETRIED else {}
        responses[str(status)] = {
            "description": " or ".join(f"`{code}`" for code in named),
            "headers": _references({**names, **more}),
            "content": {JSON: {"schema": schemas[repr(Error)]}},
        }
    return responses


def _references(names: Iterable[str]) -> Document:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _headers(headers: Mapping[str, str]) -> Document:
    return {name: _header(text) for name, text in headers.items()}


def _header(text: str) -> Document:
    return {"description": text, "schema": {"type": "string"}}
