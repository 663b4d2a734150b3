"""docs/webhooks.md: its receiver runs as it stands there, takes what linguad sends, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import trio
from documents import example
from msgspec.structs import replace
from patience import PATIENCE_S

from linguad.core.webhooks import (
    RETRY_SECONDS,
    Delivery,
    EventType,
    Webhook,
    headers,
    rotated,
    secret,
    secrets_in_force,
)
from linguad.gateway.webhooks.post import GuardedPost, Sent

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
KEY = b"k" * 32
NOW = 1_700_000_000


def delivery(number: int) -> Delivery:
    return Delivery(
        id=f"dlv_{number}",
        webhook_id="wh_1",
        tenant_id="t",
        event_id=f"evt_{number}",
        type=EventType.PING,
        body=b'{"id": "evt_%d", "type": "ping", "data": {"n": %d}}' % (number, number),
        created_at=NOW,
        due_at=NOW,
    )


async def test_the_receiver_of_the_page(tmp_path: Path) -> None:
    script = tmp_path / "receiver.py"
    code = example("docs/webhooks.md", "python")
    # the clock of the script stands still, so that the test says what is old
    script.write_text(code.replace("time.time()", str(NOW)))
    hook = Webhook(id="wh_1", tenant_id="t", url="", events=frozenset(), created_at=0)
    env = {**os.environ, "LINGUA_WEBHOOK_SECRET": secret(KEY, "wh_1", 1), "PORT": "0"}
    process = await trio.lowlevel.open_process(
        [sys.executable, script], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        with trio.fail_after(PATIENCE_S):
            async with process.stdout:
                said = b""
                while not said.endswith(b"\n"):
                    said += await process.stdout.receive_some()
                port = said.split()[-1].decode()
                hook = replace(hook, url=f"http://127.0.0.1:{port}/")
                post = GuardedPost(["127.0.0.0/8"], 10)

                async def send(one: Delivery, made: dict[str, str], body: bytes | None = None) -> Sent:
                    return await post(hook.url, made, one.body if body is None else body)

                first = delivery(1)
                signed = headers(first, secrets_in_force(KEY, hook, NOW), NOW)
                for _ in range(2):
                    assert (await send(first, signed)).status == 204
                assert (await send(first, signed, first.body + b" ")).status == 400
                assert (await send(first, signed | {"X-Lingua-Signature": "t=x,v1=e"})).status == 400
                for late in (-301, 301):
                    old = headers(first, secrets_in_force(KEY, hook, NOW), NOW + late)
                    assert (await send(first, old)).status == 400
                second = delivery(2)
                both = headers(second, secrets_in_force(KEY, rotated(hook, NOW), NOW), NOW)
                assert (await send(second, both)).status == 204
                new = headers(second, secrets_in_force(KEY, rotated(hook, NOW - 86400), NOW), NOW)
                assert (await send(second, new)).status == 400
                said = b""
                while said.count(b"\n") < 2:
                    said += await process.stdout.receive_some()
                assert said == b"ping {'n': 1}\nping {'n': 2}\n"
    finally:
        process.kill()
        await process.wait()


def test_the_page_names_every_event_and_the_ladder() -> None:
    for event in EventType:
        assert f"`{event}`" in PAGE
    names = {10: "10 s", 60: "60 s", 300: "5 min", 1800: "30 min"}
    told = [names.get(seconds) or f"{seconds // 3600} h" for seconds in RETRY_SECONDS]
    assert f"{', '.join(told[:-1])} and {told[-1]} after" in " ".join(PAGE.split())
