"""`/openapi.json`, and `/docs`: the same for people, on one page that loads nothing (gateway 11.9)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import msgspec
from quart import Response
from quart_trio import QuartTrio

from linguad.gateway.openapi.document import Document, Operation, document

DOCUMENT_PATH, PAGE_PATH = "/openapi.json", "/docs"

_SECURITY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.5rem;border-bottom:1px solid #ccc}
details{border:1px solid #ddd;border-radius:.4rem;margin:.6rem 0;padding:.4rem .8rem}
summary{cursor:pointer}code{background:#f3f3f3;padding:.1rem .25rem;border-radius:.2rem}
b.m{display:inline-block;min-width:4.5rem}table{border-collapse:collapse;width:100%;margin:.4rem 0 1rem}
td,th{text-align:left;vertical-align:top;border-top:1px solid #e5e5e5;padding:.25rem .6rem .25rem 0}
td p{margin:0}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}code{background:#2a2a2a}
details,td,th,h2{border-color:#3a3a3a}a{color:#8bf}}
"""


def add_docs(app: QuartTrio, operations: Sequence[Operation], *, page: bool) -> None:
    """Serve the document of these operations, and with `page` the page."""
    described = document(operations)
    as_json = msgspec.json.encode(described)
    as_page = render(described)

    @app.get(DOCUMENT_PATH)
    async def openapi() -> Response:
        return Response(as_json, content_type="application/json")

    if page:

        @app.get(PAGE_PATH)
        async def docs() -> Response:
            response = Response(as_page, content_type="text/html; charset=utf-8")
            response.headers["Content-Security-Policy"] = _SECURITY
            return response


def render(described: Document) -> str:
    """The page of an OpenAPI document."""
    info = described["info"]
    return "".join(
        [
            "<!doctype html><html lang=en><meta charset=utf-8>",
            "<meta name=viewport content='width=device-width,initial-scale=1'>",
            f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style>",
            f"<h1>{escape(info['title'])} API {escape(info['version'])}</h1>",
            f"<p>{escape(info['summary'])} For programs: <a href=openapi.json>openapi.json</a>. ",
            "Send <code>Authorization: Bearer KEY</code> where a key is needed. Live speech goes over the ",
            "WebSocket <code>/v1/stream</code>, which <code>docs/stream.md</code> describes.</p>",
            *_operations(described),
            "<h2 id=schemas>Schemas</h2>",
            *(
                f"<details id='{escape(name)}' open><summary><code>{escape(name)}</code></summary>"
                f"{_text(schema)}{_members(schema)}</details>"
                for name, schema in described["components"]["schemas"].items()
            ),
            "</html>",
        ]
    )


def _operations(described: Document) -> Iterator[str]:
    for tag in described["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2>"
        for path, methods in described["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    yield _operation(method.upper(), path, operation)


def _operation(method: str, path: str, operation: Document) -> str:
    parts = [
        f"<details id='{escape(operation['operationId'])}'><summary><b class=m>{method}</b> "
        f"<code>{escape(path)}</code> {escape(operation['summary'])}</summary>",
        _text(operation) if "security" in operation else "<p>No key is needed.</p>",
    ]
    if parameters := operation.get("parameters"):
        given = (
            (escape(each["name"]), escape(each["in"]), _type(each["schema"]), _text(each))
            for each in parameters
        )
        parts += ["<h4>Parameters</h4>", _table(given)]
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<p>Body: <code>{escape(media)}</code>, {_type(content['schema'])}</p>")
    answers = (
        (status, _text(answer), ", ".join(map(_content, answer.get("content", {}).items())))
        for status, answer in operation["responses"].items()
    )
    return "".join([*parts, "<h4>Answers</h4>", _table(answers), "</details>"])


def _content(content: tuple[str, Mapping[str, Any]]) -> str:
    media, described = content
    return f"<code>{escape(media)}</code> {_type(described['schema'])}"


def _members(schema: Document) -> str:
    members = schema.get("properties", {})
    required = schema.get("required", ())
    rows = (
        (
            f"<code>{escape(name)}</code>",
            _type(member) + ("" if name in required else _default(member)),
            _text(member),
        )
        for name, member in members.items()
    )
    return _table(rows) if members else f"<p>{_type(schema)}</p>"


def _default(member: Document) -> str:
    default = member.get("default")
    return ", optional" if default is None else f", else <code>{escape(str(default))}</code>"


def _type(schema: Document) -> str:
    """What a schema allows, in a few words."""
    if reference := schema.get("$ref"):
        name = escape(str(reference).rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    if several := schema.get("anyOf"):
        return " or ".join(_type(each) for each in several if each.get("type") != "null")
    if several := schema.get("allOf"):
        return " with ".join(map(_type, several))
    if values := schema.get("enum"):
        return " ".join(f"<code>{escape(str(value))}</code>" for value in values)
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("type") == "object" and schema.get("properties"):
        return ", ".join(f"<code>{escape(name)}</code>" for name in schema["properties"])
    return escape(str(schema.get("type", "anything")))


def _text(described: Document) -> str:
    """A description, with what stands between back-ticks as code."""
    pieces = escape(described.get("description", "")).split("`")
    text = "".join(f"<code>{piece}</code>" if odd % 2 else piece for odd, piece in enumerate(pieces))
    return f"<p>{text}</p>" if text else ""


def _table(rows: Iterator[Sequence[str]]) -> str:
    return f"<table>{''.join(f'<tr>{_cells(row)}</tr>' for row in rows)}</table>"


def _cells(row: Sequence[str]) -> str:
    return "".join(f"<td>{cell}</td>" for cell in row)
