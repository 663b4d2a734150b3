"""Requests made from the OpenAPI document, right and wrong ones: nothing is answered that is not documented.

Rules (resolution 44): a daemon with raised limits and a node that answers; no 5xx but the documented 503, no
undocumented status, content type or member. The seed is fixed, so that a failure comes again.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import trio
from conftest import Start
from processes import Api

SECONDS = 600.0
"""Longest time it may take on a machine that is busy; 40 s are usual."""

CONFIG = """
[generation]
database = "none"
max-examples = 3
[phases.examples]
enabled = false
[phases.stateful]
enabled = false
[checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", "503"]
# What the schema cannot say (languages served, balances) is refused all the same.
[checks.positive_data_acceptance]
enabled = false
[checks.negative_data_rejection]
enabled = false
# GET takes owners with a slash in their name, hence more paths than the document can say.
[checks.allow_header_conformance]
enabled = false
[parameters]
"path.tenant_id" = "{tenant}"
"path.key_id" = "{key}"
"path.webhook_id" = "{webhook}"
"path.delivery_id" = "{delivery}"
[[operations]]
include-path = ["/v1/speech/translate", "/v1/speech/jobs"]
generation.max-examples = 50
phases.coverage.enabled = false
[[operations]]
include-operation-id = "delete_webhook"
parameters = {{ "path.webhook_id" = "{other_webhook}" }}
[[operations]]
include-operation-id = ["delete_tenant", "revoke_key", "show_tenant"]
parameters = {{ "path.tenant_id" = "{other_tenant}" }}
"""
"""Of what is there each operation gets one, and what is deleted is another one."""

HOOKS = dedent(
    """
    import schemathesis

    @schemathesis.hook
    def map_body(context, body):
        '''A URL that can be sent to; nobody listens there.'''
        path = context.operation.path
        if not isinstance(body, dict):
            return body
        if path.startswith("/v1/webhooks") and isinstance(body.get("url"), str):
            body["url"] = "http://127.0.0.1:9/hook"
        if path.startswith("/v1/speech") and len(body) % 2:
            return {"src_lang": "en", "tgt_lang": "es", "audio": "AAAA" * 4000}
        if path.endswith("/credits") and body.get("reason") == "credit":
            body |= {"seconds": 5}
        return body
    """
)


async def things(api: Api) -> dict[str, str]:
    """Ids of what there is."""

    async def made(path: str, **body: object) -> dict[str, str]:
        reply = await api.call("POST", path, body)
        assert reply.status in (201, 202), reply
        found: dict[str, str] = reply.json
        return found

    tenant = await made("/admin/v1/tenants", name="one", billing_mode="prepaid")
    hooks = [await made("/v1/webhooks", url="http://127.0.0.1:9/", events=["job.failed"]) for _ in range(2)]
    return {
        "tenant": tenant["tenant_id"],
        "key": (await made(f"/admin/v1/tenants/{tenant['tenant_id']}/keys"))["api_key"]["key_id"],  # type: ignore[index]
        "other_tenant": (await made("/admin/v1/tenants", name="another"))["tenant_id"],
        "webhook": hooks[0]["id"],
        "other_webhook": hooks[1]["id"],
        "delivery": (await made(f"/v1/webhooks/{hooks[0]['id']}/test"))["id"],
    }


def attack(api: Api, config: Path) -> subprocess.CompletedProcess[str]:
    """Run the tool to its end, with one worker: Python 3.11 parses lambdas in two threads at once wrongly."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", config),
            *("run", f"http://127.0.0.1:{api.port}/openapi.json", "-H", f"Authorization: Bearer {api.key}"),
            *("--seed", "1", "--no-color", "--continue-on-failure", "-w", "1", "--no-shrink"),
        ],
        cwd=config.parent,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "hooks_of_siege", "PYTHONPATH": str(config.parent)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


async def test_nothing_is_answered_that_is_not_documented(start: Start, tmp_path: Path) -> None:
    daemon = start(
        gateway={"failed_auth_limit": 0, "webhook_allowed_networks": ["127.0.0.0/8"]},
        jobs={"pending_timeout_seconds": 0.5},
    )
    api = await daemon.operator()
    reply = await api.call(
        "PATCH",
        "/admin/v1/tenants/default",
        {"max_requests_per_second": 100_000, "max_concurrent_sessions": 1000}
        | {"default_src_lang": "en", "default_tgt_lang": "es"},
    )
    assert reply.status == 200, reply
    (tmp_path / "hooks_of_siege.py").write_text(HOOKS)
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG.format(**await things(api)))
    async with daemon.working_node():
        done = await trio.to_thread.run_sync(attack, api, config)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((await api.call("GET", "/openapi.json", key="")).body)
    daemon.stop()
    asked = {
        (event["method"] + " " + re.sub("<(?:path:)?([a-z_]+)>", r"{\1}", event["route"]), event["status"])
        for event in daemon.events
        if event["event"] == "api_request" and event["route"]
    }
    routes = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
        if not path.startswith("/health")
    }
    assert routes - {route for route, _ in asked} == set(), done.stdout
    done_well = {
        ("POST /v1/speech/translate", 200),
        ("POST /v1/speech/jobs", 202),
        ("POST /v1/webhooks", 201),
    }
    assert done_well - asked == set()
