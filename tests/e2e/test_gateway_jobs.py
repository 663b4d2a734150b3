"""Asynchronous translations and webhooks of a real daemon: the news come, and a kill loses nothing."""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
from typing import Any

import trio
from conftest import Start
from processes import PATIENCE_S, Api, DaemonProcess, Json, form
from tls_server import Exchange, Seen, web_server

SECOND = bytes(range(1, 251)) * 128
"""A second of PCM16 at 16 kHz."""

HERE: Json = {"webhook_allowed_networks": ["127.0.0.0/8"]}


class Inbox:
    """A receiver of webhooks."""

    def __init__(self) -> None:
        self._send, self._got = trio.open_memory_channel[Seen](100)

    async def serve(self, exchange: Exchange) -> None:
        await exchange.answer(204)
        await self._send.send(exchange.seen)

    async def next(self, secret: str) -> Json:
        """The next event, whose signature is right."""
        with trio.fail_after(PATIENCE_S):
            seen = await self._got.receive()
        stamp, sign = seen.headers["x-lingua-signature"].split(",")
        message = stamp.removeprefix("t=").encode() + b"." + seen.body
        assert sign == f"v1={hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()}"
        event: Json = json.loads(seen.body)
        return event


async def hook(api: Api, port: int) -> Json:
    """A new webhook."""
    wanted = {"url": f"http://127.0.0.1:{port}/hook", "events": ["job.completed", "job.failed"]}
    reply = await api.call("POST", "/v1/webhooks", wanted, Content_Type="application/json")
    assert reply.status == 201, reply
    return reply.json


async def submit(api: Api, **fields: str) -> str:
    """A new job."""
    body, kind = form(SECOND, src_lang="en", tgt_lang="es", **fields)
    reply = await api.call("POST", "/v1/speech/jobs", body, Content_Type=kind)
    assert reply.status == 202, reply
    assert reply.headers["location"] == f"/v1/speech/jobs/{reply.json['job_id']}"
    return str(reply.json["job_id"])


async def look(api: Api, job_id: str) -> Json:
    return (await api.call("GET", f"/v1/speech/jobs/{job_id}")).json


async def test_the_news_of_a_job(start: Start) -> None:
    daemon, inbox = start(gateway=HERE), Inbox()
    api = await daemon.gateway()
    async with web_server(inbox.serve) as port, daemon.working_node():
        made = await hook(api, port)
        job_id = await submit(api, callback_url=made["url"])
        event = await inbox.next(made["secret"])
        assert (event["type"], event["data"]["job_id"]) == ("job.completed", job_id)
        assert event["data"]["result"]["text"] == "oído 0"
        assert "audio_tts" not in event["data"]["result"]
        job = await look(api, job_id)
        assert (job["status"], job["result"]["text"]) == ("succeeded", "oído 0")
        assert job["result"]["audio_tts"]
        gone = await api.call("DELETE", f"/v1/speech/jobs/{job_id}")
        assert gone.status == 204
        assert (await api.call("GET", f"/v1/speech/jobs/{job_id}")).problem(404)["code"] == "job_not_found"
    daemon.stop()


async def test_a_kill_loses_no_job_and_no_news(start: Start) -> None:
    """Killed while a node works on one job and others wait: the next process ends all of them, once each."""
    rules = HERE | {"jobs_at_once": 1}
    daemon, inbox = start(gateway=rules), Inbox()
    api = await daemon.gateway()
    async with web_server(inbox.serve) as port:
        made = await hook(api, port)
        async with daemon.node() as node:
            ids = [await submit(api) for _ in range(3)]
            await node.job()
            assert [(await look(api, one))["status"] for one in ids] == ["running", "queued", "queued"]
            daemon.signal(signal.SIGKILL)
            await trio.to_thread.run_sync(daemon.wait)
        again = start(gateway=rules, server={"state_dir": str(daemon.directory / "state")})
        api = Api((await again.event("listening", door="gateway"))["port"], api.key)
        async with again.working_node():
            told = [await inbox.next(made["secret"]) for _ in range(3)]
        # the order of events is not promised
        assert {event["data"]["job_id"] for event in told} == set(ids)
        assert {event["type"] for event in told} == {"job.completed"}
        assert {(await look(api, one))["status"] for one in ids} == {"succeeded"}
        await stopped(again)
    assert not any((daemon.directory / "state" / "jobs").iterdir())


async def stopped(daemon: DaemonProcess) -> Any:
    """End a daemon in order, while servers of the test go on."""
    return await trio.to_thread.run_sync(daemon.stop)
