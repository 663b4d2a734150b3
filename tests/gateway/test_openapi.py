"""The documents of the public API say what its app does, and load nothing from elsewhere."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from quart_trio import QuartTrio

from linguad.gateway.openapi.answers import Charged, Translation
from linguad.gateway.openapi.document import Operation, document, mismatches
from linguad.gateway.openapi.operations import OPERATIONS
from linguad.gateway.openapi.site import DOCUMENT_PATH, PAGE_PATH, add_docs, render
from linguad.web.app import create_app
from linguad.web.problems import Problem

DOCUMENT: dict[str, Any] = json.loads(msgspec.json.encode(document(OPERATIONS)))


def schema(name: str) -> dict[str, Any]:
    """A schema that stands on its own."""
    return {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def app_of(operations: tuple[Operation, ...]) -> QuartTrio:
    app = create_app("test")
    for operation in operations:
        if operation.path == DOCUMENT_PATH:
            continue
        rule = re.sub(r"\{([^}]+)\}", r"<string:\1>", operation.path)
        app.add_url_rule(rule, operation.id, lambda: "", methods=[operation.method])
    add_docs(app, operations, page=True)
    return app


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        place = DOCUMENT
        for name in reference.removeprefix("#/").split("/"):
            place = place[name]
        assert place


def test_operations_have_one_name_each() -> None:
    names = [operation.id for operation in OPERATIONS]
    assert len(names) == len(set(names))
    assert DOCUMENT["openapi"].startswith("3.1")
    assert sum(map(len, DOCUMENT["paths"].values())) == len(OPERATIONS)


def test_answers_are_as_documented() -> None:
    problem = Problem.wrong_field("tgt_lang", "is no language code", "unsupported_language")
    jsonschema_rs.validate(schema("Error"), problem.body("r-1", trace_id="t-1"))
    jsonschema_rs.validate(schema("Error"), Problem(429, "rate_limited", "Slowly.").body("r-1"))
    answer = Translation(
        text="hola",
        text_asr="hello",
        audio_tts="",
        tts_format="wav",
        tts_sample_rate=16000,
        duration_ms=700,
        session_id="s",
        request_id="r",
        trace_id="t",
        usage=Charged(audio_ms=900, billed_seconds=1),
    )
    jsonschema_rs.validate(schema("Translation"), json.loads(msgspec.json.encode(answer)))
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema("Error"), {"error": {"code": "x"}})


def test_translate_says_what_it_takes_and_refuses() -> None:
    translate = DOCUMENT["paths"]["/v1/speech/translate"]["post"]
    assert translate["security"] == [{"key": []}]
    content = translate["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "application/json"}
    assert (
        content["application/json"]["schema"]["allOf"][1]["properties"]["audio"]["contentEncoding"]
        == "base64"
    )
    assert content["multipart/form-data"]["encoding"]["features"] == {"contentType": "application/json"}
    answers = translate["responses"]
    assert {"200", "400", "401", "402", "403", "408", "409", "413", "415", "422", "429", "503"} < set(answers)
    assert "`audio_too_long`" in answers["413"]["description"]
    assert "Retry-After" in answers["429"]["headers"]
    assert "RateLimit-Remaining" in answers["200"]["headers"]


def test_health_needs_no_key() -> None:
    health = DOCUMENT["paths"]["/health"]["get"]
    assert "security" not in health
    assert "401" not in health["responses"]


def test_the_table_is_compared_with_the_routes() -> None:
    one = Operation(method="DELETE", path="/v1/jobs/{job_id}", id="drop", summary="Drop", tag="jobs")
    operations = (*OPERATIONS, one)
    app = app_of(operations)
    assert mismatches(app.url_map, operations, [PAGE_PATH]) == []
    assert mismatches(app.url_map, OPERATIONS, [PAGE_PATH]) == [
        "DELETE /v1/jobs/{job_id}: is routed but not documented"
    ]
    two = msgspec.structs.replace(one, method="GET")
    assert mismatches(app.url_map, (*operations, two), [PAGE_PATH]) == [
        "GET /v1/jobs/{job_id}: is documented but not routed"
    ]
    assert mismatches(app.url_map, operations) == ["GET /docs: is routed but not documented"]


async def test_the_documents_are_served() -> None:
    client = app_of(OPERATIONS).test_client()
    answer = await client.get("/openapi.json")
    assert json.loads(await answer.get_data()) == DOCUMENT
    page = await client.get("/docs")
    assert page.content_type == "text/html; charset=utf-8"
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    text = await page.get_data(as_text=True)
    assert "/v1/speech/translate" in text
    assert "no_capacity" in text


async def test_the_page_can_be_left_out() -> None:
    app = create_app("test")
    add_docs(app, OPERATIONS, page=False)
    assert (await app.test_client().get("/docs")).status_code == 404
    assert (await app.test_client().get("/openapi.json")).status_code == 200


class Page(HTMLParser):
    """Collects what a page links to and the places in it, and checks that it is nested well."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.places: set[str] = set()
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "iframe")
        found = dict(attrs)
        self.links |= {link for name in ("href", "src") if (link := found.get(name))}
        self.places |= {place for place in (found.get("id"),) if place}
        if tag not in ("meta", "html"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "html":
            assert self.open.pop() == tag


def test_the_page_loads_nothing_and_its_links_work() -> None:
    page = Page(render(DOCUMENT))
    assert page.open == []
    assert page.links - {"openapi.json"} == {link for link in page.links if link.startswith("#")}
    assert {link.removeprefix("#") for link in page.links - {"openapi.json"}} <= page.places


def test_text_of_others_is_escaped() -> None:
    evil = Operation(method="GET", path="/<b>", id="x'<i>", summary="<script>", tag="<u>", open=True)
    text = render(document([evil]))
    assert "<script>" not in text
    assert "<b>" not in text.replace("<b class", "")
    assert "<u>" not in text
