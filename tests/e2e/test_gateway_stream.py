"""`/v1/stream` of a real daemon: who is let in, utterances, and every way it ends (gateway 6, 11.4, 14)."""

from __future__ import annotations

from base64 import b64encode

import trio
from conftest import Start
from processes import PATIENCE_S, DaemonProcess, linguad
from stream_app import SECOND, refused, stream_of, ticket_of, until_in_use


async def test_whole_utterances(daemon: DaemonProcess) -> None:
    api = await daemon.gateway()
    async with daemon.working_node(), stream_of(api, X_Request_Id="req-7") as app:
        await app.say("start", src_lang="en", tgt_lang="es")
        started = await app.hear("started")
        assert started["request_id"] == "req-7"
        assert started["session_id"].startswith("s-")
        for _ in range(3):
            await app.speak()
        finals = [await app.hear("final") for _ in range(3)]
        assert [(final["utterance_index"], final["text"]) for final in finals] == [
            (index, f"oído {index}") for index in range(3)
        ]
        assert finals[0]["tts_format"] == "pcm16"
        await app.say("end", close=True)
        ended = await app.hear("ended")
        assert ended["session_id"] == started["session_id"]
        assert ended["usage"]["audio_ms"] == 3000
    await until_in_use(api, 0)


async def test_a_signal_that_the_server_cuts(daemon: DaemonProcess) -> None:
    api = await daemon.gateway()
    async with daemon.working_node(), stream_of(api) as app:
        await app.say("start", src_lang="en", tgt_lang="es", segmentation="stream", acks=True)
        await app.hear("started")
        for seq in range(12):
            await app.speak(seq=seq)
        await app.say("end")
        assert (await app.hear("final"))["utterance_index"] == 0
        assert (await app.hear("final"))["utterance_index"] == 1
        assert (await app.hear("audio_ack"))["seq"] <= 11


async def test_ways_in_for_a_browser(daemon: DaemonProcess) -> None:
    api = await daemon.gateway()
    ticket = await ticket_of(api)
    async with stream_of(api, f"?ticket={ticket}", key="") as app:
        await app.say("start", src_lang="en", tgt_lang="es")
        await app.hear("started")
    status, problem = await refused(api, f"?ticket={ticket}", key="")
    assert (status, problem["code"]) == (401, "invalid_credentials")

    async with stream_of(api, key="", subprotocols=["lingua.v1"]) as app:
        assert app.socket.subprotocol == "lingua.v1"
        await app.say("auth", token=api.key)
        await app.say("start", src_lang="en", tgt_lang="es")
        await app.hear("started")
    bearer = "bearer." + b64encode(api.key.encode()).decode().rstrip("=").replace("+", "-").replace("/", "_")
    async with stream_of(api, key="", subprotocols=["lingua.v1", bearer]) as app:
        assert app.socket.subprotocol == "lingua.v1"
        await app.say("start", src_lang="en", tgt_lang="es")
        await app.hear("started")
    assert api.key not in "".join(daemon.lines)
    assert ticket not in "".join(daemon.lines)


async def test_who_is_not_let_in(daemon: DaemonProcess) -> None:
    api = await daemon.gateway()
    assert (await refused(api, key=""))[0] == 401
    assert (await refused(api, key="lk_live_aaaaaaaaaaaa_" + "x" * 43))[1]["code"] == "invalid_credentials"
    assert (await refused(api, f"?api_key={api.key}", key=""))[0] == 401
    status, problem = await refused(api, Origin="https://evil.example")
    assert (status, problem["code"]) == (403, "origin_not_allowed")
    status, problem = await refused(api, f"?ticket={await ticket_of(api)}")
    assert (status, problem["code"]) == (400, "multiple_credentials")


async def test_a_key_in_the_address_is_redacted_where_it_is_allowed(start: Start) -> None:
    daemon = start(gateway={"stream_allow_query_api_key": True}, log={"level": "debug"})
    api = await daemon.gateway()
    async with stream_of(api, f"?api_key={api.key}", key="") as app:
        await app.say("start", src_lang="en", tgt_lang="es")
        await app.hear("started")
    await api.call("GET", f"/v1/me?api_key={api.key}", key="")
    daemon.stop()
    assert api.key not in "".join(daemon.lines + daemon.complaints)


async def test_a_client_that_vanishes_frees_its_slot(daemon: DaemonProcess) -> None:
    api = await daemon.gateway()
    async with daemon.node() as node:
        async with stream_of(api) as app:
            await app.say("start", src_lang="en", tgt_lang="es")
            await app.hear("started")
            for _ in range(8):
                await app.speak()
            jobs = [await node.job() for _ in range(4)]
            await until_in_use(api, 1)
            # with four in flight nothing more is read
        await until_in_use(api, 0)
        cancelled = {(await node.until("job_cancel"))["job_id"] for _ in jobs}
        assert cancelled == {job["job_id"] for job in jobs}


async def test_a_tenant_that_is_disabled_is_sent_away(start: Start) -> None:
    daemon = start()
    api = await daemon.gateway()
    config = daemon.directory / "linguad.toml"
    async with stream_of(api) as app:
        await app.say("start", src_lang="en", tgt_lang="es")
        await app.hear("started")
        words = ("tenant", "disable", "default", "--config", config)
        done = await trio.to_thread.run_sync(lambda: linguad(*words))
        assert done.returncode == 0, done
        assert (await app.closed())[0] == 4403
    assert (await api.call("GET", "/v1/me")).problem(403)["code"] == "tenant_disabled"


async def test_shutdown_answers_what_was_said(start: Start) -> None:
    daemon = start(server={"drain_seconds": 10})
    api = await daemon.gateway()
    async with daemon.node() as node, stream_of(api) as app:
        await app.say("start", src_lang="en", tgt_lang="es")
        await app.hear("started")
        await app.speak()
        job = await node.job()
        daemon.signal(15)
        await node.answer(job)
        assert (await app.hear("final"))["text"] == "oído 0"
        assert (await app.hear("ended"))["reason"]
        assert (await app.closed())[0] == 1001
    assert await daemon.ended() == 0


async def test_a_quota_warns_and_then_ends_a_stream(start: Start) -> None:
    daemon = start()
    api = await daemon.gateway()
    config = daemon.directory / "linguad.toml"
    words = ("tenant", "set", "default", "max_audio_seconds_per_day=3", "--config", config)
    done = await trio.to_thread.run_sync(lambda: linguad(*words))
    assert done.returncode == 0, done
    async with daemon.working_node(), stream_of(api) as app:
        with trio.fail_after(PATIENCE_S):
            # the daemon reads what the command wrote within a second
            while not (await api.call("GET", "/v1/me")).json["limits"]["max_audio_seconds_per_day"]:  # noqa: ASYNC110
                await trio.sleep(0.1)
        await app.say("start", src_lang="en", tgt_lang="es", usage=True)
        await app.hear("started")
        await app.speak()
        spent = await app.hear("usage")
        assert (spent["audio_ms"], spent["billed_seconds"], spent["left_seconds"]) == (1000, 1, 2)
        await app.speak(2)
        assert (await app.hear("error"))["code"] == "quota_exceeded"
        assert (await app.hear("ended"))["reason"] == "quota_exceeded"
        assert (await app.closed())[0] == 4429
        reply = await api.translate(SECOND, src_lang="en", tgt_lang="es")
        assert reply.problem(429)["code"] == "quota_exceeded"
        assert int(reply.headers["retry-after"]) >= 1


async def test_who_is_refused_is_told_what_there_is(daemon: DaemonProcess) -> None:
    api = await daemon.gateway()
    async with daemon.working_node(), stream_of(api) as app:
        await app.say("start", src_lang="en", tgt_lang="fi")
        await app.hear("started")
        await app.speak()
        error = await app.hear("error")
        assert (error["code"], error["utterance_index"]) == ("no_capacity", 0)
        assert error["details"]["free_slots"] == error["details"]["ready_nodes"] == 0
        assert error["details"]["retry_after_s"] >= 1
