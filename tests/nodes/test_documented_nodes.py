"""Nodes that were built from the documentation alone: its messages to the letter (node-protocol D36, 7).

Rules: memory streams and autojump_clock; what is quoted is quoted as it stands in the documents.
"""

from __future__ import annotations

from typing import Any

import trio
from harness import LANGUAGES, SERVICES, Json, Node, World, daemon_in_memory
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad.core.services import CORE_SERVICES, Services

REGISTRATION = """
{
  "type": "register",
  "version": "3.0",
  "language_capabilities": {
    "asr_languages": ["zh", "en", "de"],
    "semantic_languages": ["zh", "en"],
    "tts_languages": ["zh", "en", "ja"]
  }
}
"""

HEARTBEAT = """
{
  "type": "heartbeat",
  "node_id": "node-abc123"
}
"""

MISSING = """
{
  "type": "MODEL_NOT_AVAILABLE",
  "node_id": "node-23",
  "job_id": "job-88921",
  "model_id": "marian-zh-en",
  "version": "2.1.0",
  "reason": "not_installed"
}
"""


async def documented(world: World, node_id: str = "node-abc123", **members: Any) -> Node:
    """A node that has registered by the documented name, and nothing else yet."""
    node = await world.unregistered()
    languages = {"asr_languages": ["zh", "en"], "semantic_languages": ["zh"], "tts_languages": ["zh", "en"]}
    message = {"type": "register", "node_id": node_id, "version": "3.0", "language_capabilities": languages}
    await node.say(message | members)
    node.id = (await node.until("node_register_ack"))["node_id"]
    return node


async def beat(node: Node, **members: Any) -> Json:
    """Send the documented heartbeat; its answer."""
    await node.say({"type": "heartbeat", "node_id": node.id} | members)
    return await node.until("heartbeat_ack")


async def test_node_of_the_documentation_translates(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.unregistered()
        await node.say(REGISTRATION)
        node.id = (await node.hear())["node_id"]
        await node.say(HEARTBEAT.replace("node-abc123", node.id))
        assert await node.hear() == {"type": "heartbeat_ack", "node_id": node.id, "status": "ready"}
        client = await world.client(src_lang="zh", tgt_lang="en")
        await client.speak()
        job = await node.job()
        assert (job["src_lang"], job["tgt_lang"], job["is_manual_cut"]) == ("zh", "en", True)
        await node.answer(job, text_asr="今天下雨", text_translated="It is raining today")
        result = await client.result()
        assert (result["text_asr"], result["text_translated"]) == ("今天下雨", "It is raining today")


async def test_its_languages_stand_for_services_and_the_rest_is_as_with_others(
    autojump_clock: MockClock,
) -> None:
    async with daemon_in_memory() as world:
        node = await documented(world)
        assert node.id == "node-abc123"
        assert await beat(node) == {"type": "heartbeat_ack", "node_id": node.id, "status": "ready"}
        record = world.daemon.fleet.nodes[node.id]
        assert record.services.running == CORE_SERVICES | Services.SEMANTIC
        assert not record.oldest_generation
        assert record.accepts_public
        assert record.cap == 4


async def test_heartbeat_keeps_what_it_does_not_mention(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await documented(world), await world.client(src_lang="zh", tgt_lang="en")
        for _ in range(20):
            assert (await beat(node))["status"] == "ready"
            await trio.sleep(30)
        await client.utterance(0, src_lang="zh", tgt_lang="en")
        await node.job()


async def test_node_that_names_its_services_is_taken_at_its_word(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        stopped = [service | {"status": "stopped"} for service in SERVICES]
        node = await documented(world, installed_services=stopped)
        assert await beat(node) == {
            "type": "heartbeat_ack",
            "node_id": node.id,
            "status": "registering",
            "reason": "no_running_service",
            "message": "start the services that do not run: asr (no_running_impl), nmt (no_running_impl), "
            "tts (no_running_impl)",
        }
        assert (await beat(node, language_capabilities=LANGUAGES))["reason"] == "no_running_service"
        assert (await beat(node, installed_services=SERVICES))["status"] == "ready"


async def test_languages_may_come_with_a_heartbeat(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await documented(world, language_capabilities=None)
        assert (await beat(node))["reason"] == "no_running_service"
        one = {"asr_languages": ["en"], "tts_languages": ["en"]}
        assert (await beat(node, language_capabilities=one))["reason"] == "no_language_pair"
        both = {"asr_languages": ["en", "zh"], "tts_languages": ["en"]}
        assert await beat(node, language_capabilities=both) == {
            "type": "heartbeat_ack",
            "node_id": node.id,
            "status": "ready",
        }
        assert not world.daemon.fleet.nodes[node.id].oldest_generation


async def test_services_named_in_a_heartbeat_stay_when_languages_change(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await documented(world)
        stopped = [service | {"status": "stopped"} for service in SERVICES]
        await beat(node, installed_services=[*SERVICES[:2], *stopped[2:]])
        await beat(node, language_capabilities=LANGUAGES)
        assert world.daemon.fleet.nodes[node.id].services.running == Services.ASR | Services.NMT


async def test_heartbeat_of_nobody_is_told_so(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.unregistered()
        await node.say(HEARTBEAT)
        assert await node.hear() == {
            "type": "heartbeat_ack",
            "node_id": "node-abc123",
            "status": "offline",
            "reason": "not_registered",
            "message": "this connection has not registered this node; register it, then send heartbeats",
        }
        await node.register("node-abc123")
        assert node.connected


async def test_heartbeat_with_the_id_of_another_is_told_so_and_changes_nothing(
    autojump_clock: MockClock,
) -> None:
    async with daemon_in_memory() as world:
        node, other = await world.node("node-abc123"), await documented(world, "node-other")
        await other.say({"type": "heartbeat", "node_id": "node-abc123", "installed_services": []})
        ack = await other.hear()
        assert (ack["node_id"], ack["status"], ack["reason"]) == ("node-abc123", "offline", "not_registered")
        record = world.daemon.fleet.nodes[node.id]
        assert record.status.value == "ready"
        assert record.services.running == CORE_SERVICES


class TestModelNotAvailable:
    async def test_the_job_goes_to_another_node_at_once(self, autojump_clock: MockClock) -> None:
        async with daemon_in_memory() as world:
            nodes, client = [await world.node(), await world.node()], await world.client()
            await client.utterance(0)
            await wait_all_tasks_blocked()
            [(node, job)] = [(node, job) for node in nodes for job in await node.heard("job_assign")]
            [other] = [peer for peer in nodes if peer is not node]
            asked_at = trio.current_time()
            await node.say(MISSING.replace("node-23", node.id).replace("job-88921", job["job_id"]))
            again = await other.job()
            assert trio.current_time() - asked_at < 0.3
            await other.answer(again)
            assert (await client.result())["utterance_index"] == 0

    async def test_the_service_that_is_named_gets_no_jobs_for_a_while(
        self, autojump_clock: MockClock
    ) -> None:
        async with daemon_in_memory() as world:
            node, client = await world.node(), await world.client()
            await client.utterance(0)
            job = await node.job()
            message = {"type": "MODEL_NOT_AVAILABLE", "job_id": job["job_id"], "reason": "downloading"}
            await node.say(message | {"node_id": node.id, "service_id": "test-nmt"})
            await wait_all_tasks_blocked()
            assert world.daemon.fleet.nodes[node.id].services.marked == ["test-nmt"]
            await trio.sleep(61)
            assert world.daemon.fleet.nodes[node.id].services.marked == []

    async def test_without_a_job_it_is_about_the_service_alone(self, autojump_clock: MockClock) -> None:
        async with daemon_in_memory() as world:
            node, client = await world.node(), await world.client()
            await client.utterance(0)
            job = await node.job()
            for name in ("service_id", "model_id"):
                await node.say({"type": "MODEL_NOT_AVAILABLE", name: f"test-{name}"})
            await node.say({"type": "MODEL_NOT_AVAILABLE"})
            await node.say({"type": "MODEL_NOT_AVAILABLE", "job_id": "", "model_id": ""})
            await node.say({"type": "MODEL_NOT_AVAILABLE", "model_id": "test-tts", "version": "2.0.0"})
            await wait_all_tasks_blocked()
            assert world.daemon.fleet.nodes[node.id].services.marked == ["test-tts"]
            other = await world.node()
            await client.utterance(1)
            assert (await other.job())["utterance_index"] == 1
            await node.answer(job)
            await client.result()

    async def test_of_an_unknown_job_it_does_nothing(self, autojump_clock: MockClock) -> None:
        async with daemon_in_memory() as world:
            node = await world.node()
            await node.say(MISSING)
            assert await node.heard() == []
            assert node.connected

    async def test_a_node_that_has_not_registered_again_may_give_its_job_back(
        self, autojump_clock: MockClock
    ) -> None:
        async with daemon_in_memory(jobs={"pending_timeout_seconds": 5}) as world:
            node, client = await world.node("node-23"), await world.client()
            await client.utterance(0)
            job = await node.job()
            again, other = await world.unregistered(), await world.node()
            await again.say({"type": "MODEL_NOT_AVAILABLE", "node_id": "node-23", "model_id": "test-nmt"})
            await again.say({"type": "MODEL_NOT_AVAILABLE", "job_id": job["job_id"]})
            await wait_all_tasks_blocked()
            assert world.daemon.fleet.nodes["node-23"].services.marked == []
            await again.say(MISSING.replace("job-88921", job["job_id"]))
            await other.job()
