"""The interoperability checklist of node-protocol 11, item by item, as real nodes and clients play it.

Rules: memory streams and autojump_clock; frames are plain JSON; nodes send what real ones do, so no acks.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from harness import LANGUAGES, SERVICES, Client, Json, Node, World, daemon_in_memory, plan_a
from trio.testing import MockClock, wait_all_tasks_blocked
from trio_websocket import ConnectionClosed

NOTHING = {"text_asr": "", "text_translated": "", "tts_audio": ""}
FLAGS = ("is_manual_cut", "is_timeout_triggered", "is_max_duration_triggered", "is_pause_triggered")


def status(world: World, node_id: str) -> str:
    """What the daemon thinks of a node."""
    return world.daemon.fleet.nodes[node_id].status.value


def slots(world: World) -> list[int]:
    """Slots in use on each connected node."""
    return [used for _, used in world.daemon.view.nodes()]


async def first_job(nodes: list[Node]) -> tuple[Node, Json]:
    """The one job that one of the nodes has got."""
    await wait_all_tasks_blocked()
    [found] = [(node, job) for node in nodes for job in await node.heard("job_assign")]
    return found


def other_than(node: Node, nodes: list[Node]) -> Node:
    """The other one of two nodes."""
    [other] = [peer for peer in nodes if peer is not node]
    return other


class TestItem1:
    async def test_fresh_node_is_ready_with_its_first_heartbeat(self, autojump_clock: MockClock) -> None:
        """Item 1: open, register without an id, ack, heartbeat, ready; and nothing else is sent."""
        async with daemon_in_memory() as world:
            node = await world.unregistered()
            ack = await node.register()
            assert ack == {
                "type": "node_register_ack",
                "node_id": node.id,
                "message": "registered",
                "status": "registering",
            }
            assert node.id.startswith("node-")
            assert len(node.id) == 13
            assert status(world, node.id) == "registering"
            await node.heartbeat()
            assert await node.heard() == []
            assert status(world, node.id) == "ready"

    async def test_its_first_heartbeat_brings_the_job_that_waited(self, autojump_clock: MockClock) -> None:
        """Item 1, and D10: there is no time between the registration and the first job."""
        async with daemon_in_memory() as world:
            client, node = await world.client(), await world.unregistered()
            await client.utterance(0)
            await trio.sleep(1)
            before = trio.current_time()
            await node.register()
            await node.heartbeat()
            await node.job()
            assert trio.current_time() == before


class TestItem2:
    async def test_node_without_languages_gets_work_when_it_has_some(self, autojump_clock: MockClock) -> None:
        """Item 2: nothing to offer is no reason to refuse; a later heartbeat makes it eligible."""
        async with daemon_in_memory() as world:
            node = await world.unregistered()
            ack = await node.register(installed_services=[], language_capabilities={})
            assert ack["node_id"] == node.id
            await node.heartbeat(installed_services=[], language_capabilities={})
            await wait_all_tasks_blocked()
            assert status(world, node.id) == "registering"
            client = await world.client()
            await client.utterance(0)
            await trio.sleep(1)
            assert await node.heard("job_assign") == []
            await node.heartbeat()
            await node.job()
            assert status(world, node.id) == "ready"


class TestItem3:
    async def test_node_of_the_latest_generation_works(self, autojump_clock: MockClock) -> None:
        """Item 3: types `phonetic` and `punctuation`, device `auto`; the rest of the message counts."""
        newer = [
            {"service_id": "fix-zh", "type": "phonetic", "device": "auto", "status": "running"},
            {"service_id": "stops", "type": "punctuation", "device": "cpu", "status": "running"},
            {"service_id": "engine", "type": "rust", "device": "auto", "status": "stopped"},
        ]
        services = [*newer, *(service | {"device": "auto"} for service in SERVICES)]
        by_type = [{"type": kind, "ready": True, "devices": ["gpu"]} for kind in ("asr", "phonetic")]
        said = {"installed_services": services, "capability_by_type": by_type}
        async with daemon_in_memory() as world:
            node, client = await world.unregistered(), await world.client()
            await node.register(**said)
            await node.heartbeat(**said)
            await client.speak()
            await node.answer(await node.job())
            assert (await client.result())["text_asr"] == "heard 0"


class TestItem4:
    async def test_heartbeat_before_registration_does_no_harm(self, autojump_clock: MockClock) -> None:
        """Item 4: the old id, a heartbeat at once, the registration later, the old socket still open."""
        async with daemon_in_memory() as world:
            first, client = await world.node("node-7F3A91C2"), await world.client()
            again = await world.unregistered()
            again.id = "node-7F3A91C2"
            await again.heartbeat()
            assert await again.heard() == []
            assert again.connected
            await trio.sleep(13)
            assert (await again.register("node-7F3A91C2"))["node_id"] == "node-7F3A91C2"
            await again.heartbeat()
            assert (await first.closed())[0] == 4001
            await trio.sleep(1)
            assert status(world, "node-7F3A91C2") == "ready"
            await client.utterance(0)
            await again.job()


class TestItem5:
    async def test_node_whose_heartbeats_stop_is_closed_and_its_jobs_move(
        self, autojump_clock: MockClock
    ) -> None:
        """Item 5: offline within 50 s, whatever its socket says."""
        async with daemon_in_memory() as world:
            node, client = await world.unregistered(), await world.client()
            await node.register()
            await trio.sleep(1)
            await node.heartbeat()
            before = trio.current_time()
            await client.speak()
            job = await node.job()
            other = await world.node()
            assert (await other.job())["job_id"] == f"{job['job_id']}~r2"
            assert 45 < trio.current_time() - before <= 50
            assert await node.closed() == (1011, "no heartbeat in time")
            assert status(world, node.id) == "offline"


class TestItem6:
    async def test_job_without_any_ack_is_completed_and_its_slot_returned_once(
        self, autojump_clock: MockClock
    ) -> None:
        """Item 6: the same answer again gives no second slot back."""
        async with daemon_in_memory(nodes={"max_concurrent_jobs": 1}) as world:
            node, client = await world.node(), await world.client()
            await client.utterance(0)
            job = await node.job()
            assert slots(world) == [1]
            await node.answer(job)
            assert (await client.result())["text_translated"] == "oído 0"
            assert slots(world) == [0]
            await client.utterance(1)
            await node.job()
            await node.answer(job)
            await wait_all_tasks_blocked()
            assert slots(world) == [1]
            await client.utterance(2)
            assert await node.heard("job_assign") == []


class TestItem7:
    @pytest.mark.parametrize(
        ("said", "reason"),
        [
            (NOTHING | {"extra": {"reason": "ASR_EMPTY"}}, "silence_detected"),
            (NOTHING | {"extra": {"reason": "NO_TEXT_ASSIGNED"}, "attempt_id": 9}, "merged"),
            (NOTHING, "silence_detected"),
            (NOTHING | {"extra": None}, "silence_detected"),
        ],
    )
    async def test_answer_without_text_ends_the_job_for_good(
        self, said: Json, reason: str, autojump_clock: MockClock
    ) -> None:
        """Item 7: one `missing_result`, no error, and no JOB_TIMEOUT ever after."""
        async with daemon_in_memory() as world:
            node, client = await world.node(), await world.client()
            await client.utterance(0)
            await node.answer(await node.job(), **said)
            missing = await client.until("missing_result")
            assert (missing["utterance_index"], missing["reason"]) == (0, reason)
            await trio.sleep(200)
            assert await client.heard("ui_event", "missing_result", "translation_result", "error") == []
            assert await node.heard() == []
            assert slots(world) == [0]

    async def test_error_that_no_node_can_cure_ends_it_at_once(self, autojump_clock: MockClock) -> None:
        """Item 7: an error."""
        async with daemon_in_memory() as world:
            node, client = await world.node(), await world.client()
            await client.utterance(0)
            await node.fail(await node.job(), message="Unsupported audio format: mp3")
            event = await client.until("ui_event", event="ERROR")
            assert event["error_code"] == "INTERNAL_ERROR"
            assert (await client.until("missing_result"))["reason"] == "job_failed"
            await trio.sleep(200)
            assert await client.heard("ui_event", "missing_result", "error") == []

    async def test_no_answer_at_all_ends_it_when_all_attempts_had_their_time(
        self, autojump_clock: MockClock
    ) -> None:
        """Item 7: a node that says nothing; each attempt has names of its own and is cancelled."""
        async with daemon_in_memory() as world:
            node, client = await world.node(), await world.client()
            await client.utterance(0)
            event = await client.until("ui_event", event="ERROR")
            assert event["error_code"] == "JOB_TIMEOUT"
            assert (await client.until("missing_result"))["reason"] == "job_timeout"
            frames = await node.heard("job_assign", "job_cancel")
            sent = [frame["job_id"] for frame in frames if frame["type"] == "job_assign"]
            assert len(sent) > 1
            assert len(set(sent)) == len(sent)
            assert [frame["job_id"] for frame in frames if frame["type"] == "job_cancel"] == sent
            await trio.sleep(200)
            assert await client.heard("ui_event", "missing_result", "error") == []


async def moved_job(world: World, client: Client) -> tuple[tuple[Node, Json], tuple[Node, Json]]:
    """A node that dropped out and is back, another that has its job now; each with what it was assigned."""
    nodes = [await world.node("node-00000001"), await world.node("node-00000002")]
    await client.speak()
    await trio.sleep(0.05)
    node, job = await first_job(nodes)
    await node.drop()
    other = other_than(node, nodes)
    second = await other.job()
    return (await world.node(node.id), job), (other, second)


class TestItem8:
    async def test_node_that_dies_at_work_is_replaced_at_once(self, autojump_clock: MockClock) -> None:
        """Item 8: the second node gets the job under `~r2` names."""
        async with daemon_in_memory() as world:
            nodes, client = [await world.node(), await world.node()], await world.client()
            await client.speak()
            await trio.sleep(0.05)
            node, job = await first_job(nodes)
            await node.drop()
            before = trio.current_time()
            other = other_than(node, nodes)
            second = await other.job()
            assert trio.current_time() == before
            assert second == job | {
                "job_id": f"{job['job_id']}~r2",
                "session_id": f"{job['session_id']}~r2",
                "attempt_id": 2,
            }
            await other.answer(second)
            result = await client.result()
            assert result["session_id"] == client.session_id
            assert result["job_id"] == job["job_id"]
            assert result["time_breakdown"]["attempts"] == 2
            assert await client.heard("translation_result", "missing_result") == []

    async def test_late_result_of_the_first_attempt_wins_if_it_is_first(
        self, autojump_clock: MockClock
    ) -> None:
        """Item 8: a late result that is complete."""
        async with daemon_in_memory() as world:
            client = await world.client()
            (again, job), (other, second) = await moved_job(world, client)
            await again.answer(job, text_asr="from the first")
            assert (await client.result())["text_asr"] == "from the first"
            assert await other.until("job_cancel") == {
                "type": "job_cancel",
                "job_id": second["job_id"],
                "trace_id": job["trace_id"],
                "reason": "superseded",
            }
            await other.answer(second)
            assert await client.heard("translation_result") == []

    async def test_late_emptiness_of_the_first_attempt_counts_nothing(
        self, autojump_clock: MockClock
    ) -> None:
        """Item 8: a late result that is not."""
        async with daemon_in_memory() as world:
            client = await world.client()
            (again, job), (other, second) = await moved_job(world, client)
            await again.answer(job, text_asr="", text_translated="", tts_audio="")
            await again.fail(job)
            assert await client.heard("translation_result", "missing_result") == []
            await other.answer(second)
            await client.result()


class StrictNode:
    """What the software of a real node does with jobs: no id twice, and a pair of languages decides (0.3)."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.taken: list[Json] = []
        self.refused: list[str] = []
        self._jobs: set[str] = set()
        self._utterances: set[tuple[str, int]] = set()

    async def work(self) -> None:
        """Take what comes until the socket is closed."""
        while True:
            try:
                await self._take(await self.node.job())
            except ConnectionClosed:
                return

    async def _take(self, job: Json) -> None:
        utterance = job["session_id"], job["utterance_index"]
        for known, key, code in (
            (job["job_id"] in self._jobs, job["job_id"], "DUPLICATE_JOB_ID"),
            (utterance in self._utterances, utterance, "DUPLICATE_UTTERANCE_INDEX"),
        ):
            if known:
                self.refused.append(code)
                await self.node.fail(job, message=f"{code}: {key}")
                return
        self._jobs.add(job["job_id"])
        self._utterances.add(utterance)
        self.taken.append(job)
        pair = [job.get("lang_a"), job.get("lang_b")]
        heard = "en" if job["src_lang"] == "auto" else job["src_lang"]
        target = pair[1 - pair.index(heard)] if heard in pair and None not in pair else job["tgt_lang"]
        await self.node.answer(job, text_translated=f"{job['utterance_index']} in {target}")


class TestItem9:
    @pytest.mark.parametrize("mode", ["one_way", "two_way_auto"])
    async def test_three_languages_of_an_utterance_on_one_node(
        self, mode: str, autojump_clock: MockClock
    ) -> None:
        """Item 9: the node takes all three, each under its own session, and none is turned round."""
        speaks = LANGUAGES | {"tts_languages": ["en", "es", "fr", "zh"]}
        async with daemon_in_memory() as world:
            node, client = await world.unregistered(), await world.stranger()
            await node.register(language_capabilities=speaks)
            await node.heartbeat(language_capabilities=speaks)
            await client.open(mode=mode, lang_a="en", lang_b="es")
            strict = StrictNode(node)
            world.nursery.start_soon(strict.work)
            targets = ["es", "fr", "zh"]
            for index, order in enumerate([targets, targets[::-1], targets]):
                for target in order:
                    await client.utterance(index, tgt_lang=target)
            results = [await client.result() for _ in range(9)]
            assert strict.refused == []
            names = {target: f"{client.session_id}#{target}" for target in targets}
            names["es"] = client.session_id
            assert {job["tgt_lang"]: job["session_id"] for job in strict.taken} == names
            assert len({(job["session_id"], job["utterance_index"]) for job in strict.taken}) == 9
            assert {job["attempt_id"] for job in strict.taken} == {1}
            targets_of = {job["job_id"]: job["tgt_lang"] for job in strict.taken}
            for result in results:
                target = targets_of[result["job_id"]]
                assert result["text_translated"] == f"{result['utterance_index']} in {target}"
                assert result["session_id"] == client.session_id

    async def test_language_that_is_tried_again_has_fresh_names(self, autojump_clock: MockClock) -> None:
        """Item 9, after a failure: even then the node refuses nothing."""
        async with daemon_in_memory() as world:
            node, client = await world.node(), await world.client()
            await client.utterance(0, tgt_lang="es")
            await client.utterance(0, tgt_lang="zh")
            jobs = [await node.job() for _ in range(2)]
            for job in jobs:
                await node.fail(job)
            again = [await node.job() for _ in range(2)]
            assert [job["session_id"] for job in again] == [f"{job['session_id']}~r2" for job in jobs]


class TestItem10:
    async def test_both_directions_are_needed_and_the_nodes_choice_is_delivered(
        self, autojump_clock: MockClock
    ) -> None:
        """Item 10: a two-way session of `auto`."""
        one_way = LANGUAGES | {"asr_languages": ["en"], "tts_languages": ["es"]}
        pair = {"lang_a": "en", "lang_b": "es", "auto_langs": ["en", "es"]}
        async with daemon_in_memory() as world:
            half = [await world.unregistered() for _ in range(3)]
            for node in half:
                await node.register(language_capabilities=one_way)
                await node.heartbeat(language_capabilities=one_way)
            node, client = await world.node(), await world.stranger()
            await client.open(src_lang="auto", tgt_lang="es", mode="two_way_auto", **pair)
            for index in range(4):
                await client.speak()
                job = await node.job()
                assert (job["src_lang"], job["tgt_lang"], job["mode"]) == ("auto", "es", "two_way_auto")
                assert {name: job[name] for name in pair} == pair
                heard = {"language_probabilities": {"es": 0.98, "en": 0.01}, "detected_src_lang": "es"}
                await node.answer(job, text_asr="llueve", text_translated="it is raining", extra=heard)
                result = await client.result(utterance_index=index)
                assert (result["text_asr"], result["text_translated"]) == ("llueve", "it is raining")
                assert result["extra"] == heard
            assert [await peer.heard("job_assign") for peer in half] == [[], [], []]


class TestItem11:
    @pytest.mark.parametrize("pace_s", [1.0, 0.6, 0.0])
    async def test_ten_slices_of_a_turn_go_to_one_node_and_end_quietly(
        self, pace_s: float, autojump_clock: MockClock
    ) -> None:
        """Item 11: in order, under one turn id; the node keeps nine and answers all with the last.

        However fast they come: those that the node has no room for wait for it.
        """
        async with daemon_in_memory(sessions={"max_duration_ms": 500}) as world:
            nodes, client = [await world.node() for _ in range(4)], await world.client()
            for index in range(10):
                await client.chunk(plan_a(25, mark=index), final=index == 9)
                await trio.sleep(pace_s)
            await trio.sleep(4)
            [(node, jobs)] = [(node, jobs) for node in nodes if (jobs := await node.heard("job_assign"))]
            assert [job["utterance_index"] for job in jobs] == list(range(10))
            assert len({(job["turn_id"], job["session_id"]) for job in jobs}) == 1
            flags = [[flag for flag in FLAGS if job.get(flag)] for job in jobs]
            assert flags == [["is_max_duration_triggered"]] * 9 + [["is_manual_cut"]]
            await trio.sleep(20)
            await node.answer(jobs[9], text_asr="all of it")
            *merged, result = await client.heard("missing_result", "translation_result")
            assert [(one["utterance_index"], one["reason"]) for one in merged] == [
                (index, "merged") for index in range(9)
            ]
            assert result["text_asr"] == "all of it"
            await client.heard()
            await trio.sleep(200)
            assert await client.heard("ui_event", "error", "translation_result", "missing_result") == []
            assert world.daemon.view.facts()["open_jobs"] == 0

    async def test_slice_that_is_kept_for_ever_ends_with_its_turn(self, autojump_clock: MockClock) -> None:
        """Item 11: what reaches the limit and then falls silent is closed, so nothing is left open."""
        async with daemon_in_memory(sessions={"max_duration_ms": 500}) as world:
            node, client = await world.node(), await world.client()
            await client.chunk(plan_a(50))
            kept, closing = await node.job(), await node.job()
            assert (kept["is_max_duration_triggered"], closing["turn_id"]) == (True, kept["turn_id"])
            await node.answer(closing)
            missing = await client.until("missing_result")
            assert (missing["utterance_index"], missing["reason"]) == (0, "merged")
            await trio.sleep(200)
            assert await client.heard("error", "missing_result") == []
            assert await node.heard("job_cancel", "job_assign") == []

    async def test_turn_moves_as_a_whole_when_its_node_dies(self, autojump_clock: MockClock) -> None:
        """Item 11: what the lost node has not answered is sent again, in order."""
        async with daemon_in_memory(sessions={"max_duration_ms": 500}) as world:
            nodes, client = [await world.node(), await world.node()], await world.client()
            for mark in range(6):
                await client.chunk(plan_a(mark=mark))
            await trio.sleep(0.1)
            [(node, jobs)] = [(node, jobs) for node in nodes if (jobs := await node.heard("job_assign"))]
            await node.answer(jobs[0], text_asr="first", text_translated="primero")
            await wait_all_tasks_blocked()
            await node.drop()
            other = other_than(node, nodes)
            again = await other.heard("job_assign")
            assert [job["utterance_index"] for job in again] == [1, 2]
            assert {job["session_id"] for job in again} == {f"{client.session_id}~r2"}
            assert [job["audio"] for job in again] == [job["audio"] for job in jobs[1:]]


class TestItem12:
    async def test_missing_model_takes_the_service_away_for_a_minute(self, autojump_clock: MockClock) -> None:
        """Item 12: the job moves at once, the node gets its next one 60 s later."""
        async with daemon_in_memory() as world:
            node, client = await world.node(), await world.client()
            await client.utterance(0)
            job, other = await node.job(), await world.node()
            before = trio.current_time()
            await missing_model(node, job, "test-nmt")
            await other.answer(await other.job())
            assert trio.current_time() == before
            assert (await client.result())["time_breakdown"]["attempts"] == 2
            await other.drop()
            await trio.sleep(55)
            await client.utterance(1)
            assert (await node.job())["utterance_index"] == 1
            assert trio.current_time() - before == pytest.approx(60, abs=0.1)
            assert await client.heard("error", "missing_result") == []

    async def test_thirty_reports_in_ten_seconds_are_believed(self, autojump_clock: MockClock) -> None:
        """Item 12: the 31st marks nothing, and its job moves all the same."""
        async with daemon_in_memory(nodes={"max_concurrent_jobs": 64}) as world:
            node, client = await world.node(), await world.client()
            for index in range(32):
                await client.utterance(index)
            jobs = await node.heard("job_assign")
            other = await world.node()
            for job in jobs[:30]:
                await missing_model(node, job, "nobody-has-it")
            await missing_model(node, jobs[30], "test-nmt")
            moved = await other.heard("job_assign")
            assert len(moved) == 31
            assert world.daemon.fleet.nodes[node.id].services.marked == []
            await trio.sleep(11)
            await missing_model(node, jobs[31], "test-nmt")
            await other.job()
            assert world.daemon.fleet.nodes[node.id].services.marked == ["test-nmt"]


async def missing_model(node: Node, job: Json, service_id: str) -> None:
    """Answer a job as documented for a service that is not there."""
    details = {"service_id": service_id, "service_version": "2.0.0", "reason": "not_installed"}
    error = {"code": "MODEL_NOT_AVAILABLE", "message": "not here", "details": details}
    nothing = dict.fromkeys(("text_asr", "text_translated", "tts_audio", "tts_format", "extra"))
    await node.answer(job, success=False, error=error, **nothing)


class TestItem13:
    async def test_busy_node_gets_the_next_job_when_it_is_done_with_one(
        self, autojump_clock: MockClock
    ) -> None:
        """Item 13: a slot that comes free goes to who waits."""
        async with daemon_in_memory(nodes={"max_concurrent_jobs": 2}) as world:
            node, client = await world.node(), await world.client()
            for index in range(4):
                await client.utterance(index)
            jobs = await node.heard("job_assign")
            assert [job["utterance_index"] for job in jobs] == [0, 1]
            await trio.sleep(2)
            for index in range(4):
                await node.answer(jobs[index])
                jobs += await node.heard("job_assign")
            assert [job["utterance_index"] for job in jobs] == [0, 1, 2, 3]
            assert [(await client.result())["utterance_index"] for _ in range(4)] == [0, 1, 2, 3]

    async def test_busy_fleet_is_told_as_such(self, autojump_clock: MockClock) -> None:
        """Item 13: without one, NODE_OVERLOADED after 10 s."""
        async with daemon_in_memory(nodes={"max_concurrent_jobs": 1}) as world:
            node, client = await world.node(), await world.client()
            await client.utterance(0)
            await client.utterance(1)
            job = await node.job()
            await trio.sleep(11)
            await node.answer(job)
            assert (await client.result())["utterance_index"] == 0
            missing = await client.until("missing_result")
            assert (missing["utterance_index"], missing["reason"]) == (1, "node_overloaded")


class TestItem14:
    async def test_messages_of_five_mebibytes_pass_both_ways(self, autojump_clock: MockClock) -> None:
        """Item 14: `job_assign` and `job_result`."""
        limits: dict[str, Any] = {"max_utterance_bytes": 8 * 2**20, "max_duration_ms": 0}
        async with daemon_in_memory(sessions=limits) as world:
            node, client = await world.node(), await world.client()
            sound = plan_a(packets=4000, size=1000)
            await client.utterance(0, sound)
            job = await node.job()
            assert len(job["audio"]) > 5 * 2**20
            await node.answer(job, tts_audio=job["audio"])
            assert (await client.result())["tts_audio"] == job["audio"]


class TestItem15:
    async def test_only_node_gets_work_though_its_gpu_is_at_its_limit(
        self, autojump_clock: MockClock
    ) -> None:
        """Item 15: one sample of 100 percent does not block dispatch."""
        usage = {"cpu_percent": 99.0, "gpu_percent": 100.0, "mem_percent": 97.0, "gpu_queue_length": 3}
        async with daemon_in_memory() as world:
            node, client = await world.unregistered(), await world.client()
            await node.register()
            await node.heartbeat(resource_usage=usage)
            before = trio.current_time()
            await client.utterance(0)
            await node.job()
            assert trio.current_time() == before
