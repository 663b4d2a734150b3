"""The node's side of the wire over memory streams and a fake clock: what a scheduler sees of it.

Rules: the scheduler here speaks plain JSON; the work is done by `Echo`, or by a runner that waits to be told.
"""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream, wrap_server_stream

from linguad.errors import ErrorCode
from linguad.net.dial import DialError
from linguad.wire.common import ExtraResult
from linguad.wire.node import HardwareInfo, JobAssign
from linguad.worker.agent import MAX_WAITING_JOBS, Agent, AgentSettings
from linguad.worker.engines.echo import Echo
from linguad.worker.runner import JobFailed, Offer, Outcome, Runner

Json = dict[str, Any]

PATIENCE_SECONDS = 1000.0
"""On the fake clock; ends a test that would wait for ever."""

AUDIO = b64encode(b"\x02\x00ab").decode()


@dataclass
class Peer:
    """The scheduler's end of one connection."""

    ws: WebSocketConnection

    async def hear(self, kind: str | None = None) -> Json:
        """The next message, which must be of this type."""
        with trio.fail_after(PATIENCE_SECONDS):
            message: Json = json.loads(await self.ws.get_message())
        assert kind in (None, message["type"]), message
        return message

    async def result(self) -> Json:
        """The next message that is no heartbeat."""
        while (message := await self.hear())["type"] == "node_heartbeat":
            pass
        assert message["type"] == "job_result"
        return message

    async def say(self, **message: Any) -> None:
        await self.ws.send_message(json.dumps(message))

    async def accept(self, node_id: str = "node-7F3A91C2") -> Json:
        """Take the registration; gives what was registered."""
        registration = await self.hear("node_register")
        await self.say(type="node_register_ack", node_id=node_id, message="registered", status="registering")
        await self.hear("node_heartbeat")
        return registration

    async def assign(self, job_id: str, index: int = 0, **other: Any) -> None:
        pipeline = {"use_asr": True, "use_nmt": True, "use_tts": True}
        await self.say(
            **{
                "type": "job_assign",
                "job_id": job_id,
                "attempt_id": 1,
                "session_id": "s-41",
                "utterance_index": index,
                "src_lang": "en",
                "tgt_lang": "es",
                "pipeline": pipeline,
                "audio": AUDIO,
                "audio_format": "opus",
                "sample_rate": 16000,
                "trace_id": "t-9",
                **other,
            }
        )


class Obedient:
    """A runner whose jobs wait until the test opens the gate; languages as those of Echo."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.running: list[str] = []
        self.done: list[str] = []
        self.failure: Exception | None = None

    def offer(self) -> Offer:
        return Echo(["en", "es"]).offer()

    async def run(self, job: JobAssign) -> Outcome:
        self.running.append(job.job_id)
        await self.gate.wait()
        self.done.append(job.job_id)
        if self.failure is not None:
            raise self.failure
        return Outcome(text_asr="heard", extra=ExtraResult())


class Sleepy(Obedient):
    """A runner whose jobs take the seconds told for each; less than none is a bug."""

    def __init__(self, seconds: dict[str, float]) -> None:
        super().__init__()
        self._seconds = seconds

    async def run(self, job: JobAssign) -> Outcome:
        await trio.sleep(self._seconds[job.job_id])
        self.done.append(job.job_id)
        return Outcome(text_asr=job.job_id, extra=ExtraResult())


@dataclass
class Bench:
    """A node that runs, and the scheduler it dials."""

    agent: Agent
    stop: trio.Event
    ended: trio.Event
    calls: trio.MemoryReceiveChannel[Peer]
    refusing: list[bool] = field(default_factory=list)
    """True in here makes dialling fail for as long."""
    hanging: list[bool] = field(default_factory=list)
    """True in here makes dialling last for ever."""
    dialled_at: list[float] = field(default_factory=list)

    async def answer(self) -> Peer:
        """The next connection of the node."""
        with trio.fail_after(PATIENCE_SECONDS):
            return await self.calls.receive()


@asynccontextmanager
async def bench(runner: Runner | None = None, **settings: Any) -> AsyncIterator[Bench]:
    connections, calls = trio.open_memory_channel[Peer](8)
    async with trio.open_nursery() as nursery:

        @asynccontextmanager
        async def dial() -> AsyncIterator[WebSocketConnection]:
            made.dialled_at.append(trio.current_time())
            if made.refusing:
                raise DialError("cannot connect to ws://localhost/ws/node: Connection refused")
            if made.hanging:
                await trio.sleep_forever()
            ours, theirs = memory_stream_pair()
            nursery.start_soon(serve, ours)
            async with trio.open_nursery() as link:
                yield await wrap_client_stream(link, theirs, "localhost", "/ws/node")  # type: ignore[arg-type]

        async def serve(stream: trio.StapledStream[Any, Any]) -> None:
            async with trio.open_nursery() as background:
                request = await wrap_server_stream(background, stream)
                connections.send_nowait(Peer(await request.accept()))

        agent = Agent(
            runner or Echo(["en", "es"]),
            dial,
            AgentSettings(**settings),
            HardwareInfo(cpu_cores=2, memory_gb=8),
        )
        made = Bench(agent, trio.Event(), trio.Event(), calls)

        async def run() -> None:
            await agent.run(made.stop)
            made.ended.set()

        nursery.start_soon(run)
        yield made
        made.stop.set()
        with trio.fail_after(PATIENCE_SECONDS):
            await made.ended.wait()
        nursery.cancel_scope.cancel()


class TestRegistration:
    async def test_a_fresh_node_registers_and_waits_for_its_id(self, autojump_clock: MockClock) -> None:
        async with bench(max_jobs=3) as node:
            peer = await node.answer()
            registration = await peer.hear("node_register")
            assert "node_id" not in registration
            assert registration["capability_schema_version"] == "2.0"
            assert registration["hardware"] == {"cpu_cores": 2, "memory_gb": 8}
            assert registration["accept_public_jobs"] is True
            assert registration["advanced_features"] == ["heartbeat_ack"]
            assert registration["max_concurrent_jobs"] == 3
            assert [service["service_id"] for service in registration["installed_services"]] == [
                "echo-asr",
                "echo-nmt",
                "echo-tts",
            ]
            assert {service["device"] for service in registration["installed_services"]} == {"cpu"}
            assert registration["capability_by_type"] == [
                {"type": kind, "ready": True, "devices": ["cpu"]} for kind in ("asr", "nmt", "tts")
            ]
            languages = registration["language_capabilities"]
            assert languages["asr_languages"] == languages["tts_languages"] == ["en", "es"]
            assert languages["semantic_languages"] == []
            assert languages["semantic_core_ready"] is False
            (rule,) = languages["nmt_capabilities"]
            assert rule["rule"] == "specific_pairs"
            assert rule["supported_pairs"] == [{"src": "en", "tgt": "es"}, {"src": "es", "tgt": "en"}]
            # Without an id neither a heartbeat nor a result may be sent.
            await peer.assign("job-1")
            await trio.sleep(20)
            await peer.say(type="node_register_ack", node_id="node-1", message="", status="registering")
            await peer.hear("node_heartbeat")
            assert node.agent.node_id == "node-1"

    async def test_a_node_that_was_told_its_id_says_it_at_once(self, autojump_clock: MockClock) -> None:
        async with bench(node_id="node-A") as node:
            peer = await node.answer()
            assert (await peer.hear("node_heartbeat"))["node_id"] == "node-A"
            assert (await peer.accept("node-A"))["node_id"] == "node-A"

    async def test_without_an_acknowledgement_it_starts_over(self, autojump_clock: MockClock) -> None:
        async with bench() as node:
            first = await node.answer()
            await first.hear("node_register")
            second = await node.answer()
            await second.accept()

    async def test_a_refused_node_comes_again(self, autojump_clock: MockClock) -> None:
        async with bench() as node:
            peer = await node.answer()
            await peer.hear("node_register")
            await peer.say(type="error", code="NO_GPU_AVAILABLE", message="a GPU is needed")
            await peer.ws.aclose(1008, "registration rejected")
            await (await node.answer()).accept()

    async def test_messages_that_make_no_sense_are_ignored(self, autojump_clock: MockClock) -> None:
        async with bench() as node:
            peer = await node.answer()
            await peer.accept()
            for nonsense in ("", "{", "[]", '{"type":"who knows"}', '{"type":"job_assign"}', "null"):
                await peer.ws.send_message(nonsense)
            await peer.ws.send_message(b"\xff\xfe")
            await peer.say(type="pairing_code", code="123456", expires_at_ms=1)
            await peer.assign("job-1")
            assert (await peer.result())["job_id"] == "job-1"


class TestHeartbeats:
    async def test_they_come_every_15_s_with_the_load_of_the_machine(self, autojump_clock: MockClock) -> None:
        async with bench(max_jobs=3) as node:
            peer = await node.answer()
            await peer.accept()
            since = trio.current_time()
            for number in (1, 2, 3):
                heartbeat = await peer.hear("node_heartbeat")
                assert trio.current_time() - since == pytest.approx(15 * number)
            assert heartbeat["node_id"] == "node-7F3A91C2"
            assert heartbeat["timestamp"] > 1_700_000_000_000
            assert heartbeat["max_concurrent_jobs"] == 3
            assert len(heartbeat["installed_services"]) == 3
            assert len(heartbeat["capability_by_type"]) == 3
            assert heartbeat["language_capabilities"]["asr_languages"] == ["en", "es"]
            usage = heartbeat["resource_usage"]
            assert 0 <= usage["cpu_percent"] <= 100
            assert 0 < usage["mem_percent"] < 100
            assert usage["running_jobs"] == 0

    async def test_they_count_the_jobs(self, autojump_clock: MockClock) -> None:
        runner = Obedient()
        async with bench(runner, max_jobs=1) as node:
            peer = await node.answer()
            await peer.accept()
            await peer.assign("job-1", 1)
            await peer.assign("job-2", 2)
            assert (await peer.hear("node_heartbeat"))["resource_usage"]["running_jobs"] == 2
            runner.gate.set()
            await peer.result()
            await peer.result()
            assert (await peer.hear("node_heartbeat"))["resource_usage"]["running_jobs"] == 0

    async def test_the_owner_hears_once_what_is_new(
        self, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        def news(event: str) -> list[str]:
            found = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
            return [line["says"] for line in found if line["event"] == event]

        caplog.set_level(logging.INFO, "linguad.worker")
        cure = {"reason": "no_running_service", "message": "start the services that do not run: nmt"}
        async with bench() as node:
            peer = await node.answer()
            await peer.accept()
            for members in ({"status": "registering", **cure}, {"status": "ready"}):
                for _ in range(2):
                    await peer.say(type="heartbeat_ack", node_id="node-7F3A91C2", **members)
            passed_over = {"asr_lang_unsupported": 1}
            await peer.say(type="heartbeat_ack", node_id="node-1", status="ready", no_work=passed_over)
            await peer.assign("job-1")
            await peer.result()
            assert news("node_standing") == [
                "this node gets no work (registering): start the services that do not run: nmt",
                "the server says that this node is ready",
            ]
            assert news("node_passed_over") == [
                "jobs that found no node at all passed this one over 1 x: "
                "1 x because it does not understand their language"
            ]


class TestJobs:
    async def test_a_result_carries_what_was_assigned(self, autojump_clock: MockClock) -> None:
        async with bench() as node:
            peer = await node.answer()
            await peer.accept()
            await peer.assign("job-1~r2", 3, attempt_id=2, session_id="s-41~r2", trace_id="t-7")
            assert await peer.result() == {
                "type": "job_result",
                "job_id": "job-1~r2",
                "node_id": "node-7F3A91C2",
                "attempt_id": 2,
                "session_id": "s-41~r2",
                "utterance_index": 3,
                "trace_id": "t-7",
                "success": True,
                "text_asr": "echo",
                "text_translated": "echo",
                "tts_audio": AUDIO,
                "tts_format": "opus",
                "processing_time_ms": 0,
                "extra": {"service_timings": {"asr_ms": 0, "nmt_ms": 0, "tts_ms": 0, "total_ms": 0}},
            }

    async def test_a_failure_carries_code_and_details(self, autojump_clock: MockClock) -> None:
        runner = Obedient()
        runner.gate.set()
        runner.failure = JobFailed(
            ErrorCode.MODEL_NOT_AVAILABLE, "no", {"service_id": "asr-fr", "reason": "not_installed"}
        )
        async with bench(runner) as node:
            peer = await node.answer()
            await peer.accept()
            await peer.assign("job-1")
            result = await peer.result()
            assert result["success"] is False
            assert result["error"] == {
                "code": "MODEL_NOT_AVAILABLE",
                "message": "no",
                "details": {"service_id": "asr-fr", "reason": "not_installed"},
            }

    async def test_a_bug_in_the_work_fails_that_job_only(self, autojump_clock: MockClock) -> None:
        runner = Obedient()
        runner.gate.set()
        runner.failure = ZeroDivisionError()
        async with bench(runner) as node:
            peer = await node.answer()
            await peer.accept()
            await peer.assign("job-1", 1)
            assert (await peer.result())["error"]["message"] == "the node failed, its log says why"
            runner.failure = None
            await peer.assign("job-2", 2)
            assert (await peer.result())["success"] is True

    async def test_an_id_and_an_utterance_are_taken_once(self, autojump_clock: MockClock) -> None:
        async with bench() as node:
            peer = await node.answer()
            await peer.accept()
            await peer.assign("job-1", 1)
            assert (await peer.result())["success"] is True
            await peer.assign("job-1", 2)
            again = await peer.result()
            assert again["success"] is False
            assert again["error"]["code"] == "PROCESSING_ERROR"
            assert again["error"]["message"].startswith("DUPLICATE_JOB_ID")
            await peer.assign("job-2", 1)
            again = await peer.result()
            assert again["error"]["message"].startswith("DUPLICATE_UTTERANCE_INDEX")
            await peer.assign("job-3", 1, session_id="s-41#es")
            assert (await peer.result())["success"] is True

    async def test_max_jobs_are_worked_on_at_once(self, autojump_clock: MockClock) -> None:
        runner = Obedient()
        async with bench(runner, max_jobs=2) as node:
            peer = await node.answer()
            await peer.accept()
            for number in range(2 + MAX_WAITING_JOBS):
                await peer.assign(f"job-{number}", number)
            await trio.sleep(1)
            assert runner.running == ["job-0", "job-1"]
            await peer.assign("job-x", 99)
            refused = await peer.result()
            assert (refused["job_id"], refused["error"]["code"]) == ("job-x", "NODE_OVERLOADED")
            runner.gate.set()
            done = {(await peer.result())["job_id"] for _ in range(2 + MAX_WAITING_JOBS)}
            assert done == {f"job-{number}" for number in range(2 + MAX_WAITING_JOBS)}

    async def test_a_cancelled_job_stops_and_is_not_answered(self, autojump_clock: MockClock) -> None:
        runner = Obedient()
        async with bench(runner, max_jobs=1) as node:
            peer = await node.answer()
            await peer.accept()
            await peer.assign("running", 1)
            await peer.assign("waiting", 2)
            await peer.assign("last", 3)
            await trio.sleep(1)
            for job in ("running", "waiting", "unknown"):
                await peer.say(type="job_cancel", job_id=job, reason="job_timeout")
            await trio.sleep(1)
            runner.gate.set()
            assert (await peer.result())["job_id"] == "last"
            assert runner.done == ["last"]
            assert (await peer.hear("node_heartbeat"))["resource_usage"]["running_jobs"] == 0

    @pytest.mark.parametrize("max_jobs", [1, 4])
    async def test_a_session_is_answered_in_order_whatever_finishes_first(
        self, autojump_clock: MockClock, max_jobs: int
    ) -> None:
        runner = Sleepy({"long": 9, "middle": 4, "short": 1, "other": 2})
        async with bench(runner, max_jobs=max_jobs) as node:
            peer = await node.answer()
            await peer.accept()
            await peer.assign("long", 1)
            await peer.assign("middle", 2)
            await peer.assign("short", 3)
            await peer.assign("other", 0, session_id="s-42")
            answered = [(await peer.result())["job_id"] for _ in range(4)]
            assert [job for job in answered if job != "other"] == ["long", "middle", "short"]
            if max_jobs == 4:
                assert runner.done == ["short", "other", "middle", "long"]
                assert answered[0] == "other"

    @pytest.mark.parametrize("cancelled", ["first", "second"])
    async def test_a_cancelled_job_holds_up_no_later_one_and_lets_none_overtake(
        self, autojump_clock: MockClock, cancelled: str
    ) -> None:
        async with bench(Sleepy({"first": 9, "second": 5, "third": 1})) as node:
            peer = await node.answer()
            await peer.accept()
            for index, job in enumerate(("first", "second", "third")):
                await peer.assign(job, index)
            await trio.sleep(2)
            await peer.say(type="job_cancel", job_id=cancelled, reason="job_timeout")
            expected = [job for job in ("first", "second", "third") if job != cancelled]
            assert [(await peer.result())["job_id"] for _ in range(2)] == expected

    async def test_a_failed_job_holds_up_no_later_one(self, autojump_clock: MockClock) -> None:
        async with bench(Sleepy({"broken": -1, "next": 1})) as node:
            peer = await node.answer()
            await peer.accept()
            await peer.assign("broken", 1)
            await peer.assign("next", 2)
            assert [(await peer.result())["success"] for _ in range(2)] == [False, True]


class TestReconnect:
    async def test_the_id_stays_and_a_heartbeat_comes_before_the_registration(
        self, autojump_clock: MockClock
    ) -> None:
        async with bench() as node:
            peer = await node.answer()
            await peer.accept("node-B")
            await peer.ws.aclose(1012)
            closed_at = trio.current_time()
            peer = await node.answer()
            assert trio.current_time() - closed_at == pytest.approx(5)
            assert (await peer.hear("node_heartbeat"))["node_id"] == "node-B"
            assert (await peer.accept("node-B"))["node_id"] == "node-B"

    async def test_the_pause_doubles_to_a_minute_and_starts_over_after_success(
        self, autojump_clock: MockClock
    ) -> None:
        async with bench() as node:
            peer = await node.answer()
            await peer.accept()
            node.refusing.append(True)
            await peer.ws.aclose()
            await trio.sleep(5 + 10 + 20 + 40 + 60 + 60 - 1)
            node.refusing.clear()
            times = node.dialled_at[1:]
            assert [round(after - before) for before, after in pairwise(times)] == [
                10,
                20,
                40,
                60,
            ]
            peer = await node.answer()
            await peer.hear("node_heartbeat")
            await peer.ws.aclose()
            await node.answer()
            assert node.dialled_at[-1] - node.dialled_at[-2] == pytest.approx(5)

    async def test_what_finishes_while_the_socket_is_down_is_dropped_the_rest_is_sent_on_the_new_one(
        self, autojump_clock: MockClock
    ) -> None:
        early, late = Obedient(), Obedient()

        class Both(Obedient):
            async def run(self, job: JobAssign) -> Outcome:
                return await (early if job.job_id == "early" else late).run(job)

        async with bench(Both()) as node:
            peer = await node.answer()
            await peer.accept()
            await peer.assign("early", 1)
            await peer.assign("late", 2)
            await trio.sleep(1)
            await peer.ws.aclose()
            await trio.sleep(1)
            early.gate.set()
            peer = await node.answer()
            await peer.hear("node_heartbeat")
            await peer.accept()
            late.gate.set()
            assert (await peer.result())["job_id"] == "late"
            assert early.done == ["early"]

    async def test_jobs_taken_before_are_known_on_the_new_connection(self, autojump_clock: MockClock) -> None:
        async with bench() as node:
            peer = await node.answer()
            await peer.accept()
            await peer.assign("job-1", 1)
            await peer.result()
            await peer.ws.aclose()
            peer = await node.answer()
            await peer.hear("node_heartbeat")
            await peer.accept()
            await peer.assign("job-1", 2)
            assert (await peer.result())["error"]["message"].startswith("DUPLICATE_JOB_ID")

    async def test_a_scheduler_that_answers_no_ping_is_left(self, autojump_clock: MockClock) -> None:
        async with bench() as node:
            peer = await node.answer()
            await peer.accept()
            # Nobody takes its messages from now on, and a full queue stops what answers pings (trap T5).
            second = await node.answer()
            assert (await second.hear("node_heartbeat"))["node_id"] == "node-7F3A91C2"


class TestStop:
    async def test_it_closes_the_connection_and_drops_the_jobs(self, autojump_clock: MockClock) -> None:
        runner = Obedient()
        async with bench(runner) as node:
            peer = await node.answer()
            await peer.accept()
            await peer.assign("job-1")
            await trio.sleep(1)
            node.stop.set()
            with pytest.raises(ConnectionClosed) as closed:
                await peer.result()
            assert closed.value.reason is not None
            assert closed.value.reason.code == 1000
            await node.ended.wait()
            assert runner.done == []

    async def test_it_does_not_wait_for_the_next_attempt_to_connect(self, autojump_clock: MockClock) -> None:
        async with bench() as node:
            node.refusing.append(True)
            await trio.sleep(1)
            node.stop.set()
            since = trio.current_time()
            await node.ended.wait()
            assert trio.current_time() == since

    async def test_it_does_not_wait_for_an_attempt_to_connect_that_hangs(
        self, autojump_clock: MockClock
    ) -> None:
        async with bench() as node:
            node.hanging.append(True)
            await trio.sleep(1)
            assert len(node.dialled_at) == 1
            node.stop.set()
            since = trio.current_time()
            await node.ended.wait()
            assert trio.current_time() == since


def test_echo_serves_every_pair_of_its_languages() -> None:
    offer = Echo(["es", "en", "zh", "en"]).offer()
    assert offer.languages.asr_languages == ["en", "es", "zh"]
    (rule,) = offer.languages.nmt_capabilities or []
    assert len(rule.supported_pairs or []) == 6
