"""Languages of a session: whether they can be had is told at once, and they change between utterances."""

from __future__ import annotations

from typing import Any

import trio
from harness import LANGUAGES, Client, Json, Node, World, daemon_in_memory, plan_a
from trio.testing import MockClock, wait_all_tasks_blocked

FRENCH = LANGUAGES | {"asr_languages": ["en", "fr"], "tts_languages": ["en", "fr"]}


async def french(world: World, **members: Any) -> Node:
    """A node for English and French."""
    node = await world.unregistered()
    spoken = FRENCH | members
    await node.register(language_capabilities=spoken)
    await node.heartbeat(language_capabilities=spoken)
    return node


async def minder(world: World, **members: Any) -> Client:
    """A client that takes notice of what is served."""
    client = await world.stranger()
    client.minds_languages = True
    await client.open(**members)
    return client


async def languages_of(node: Node) -> tuple[str, str]:
    """Source and target of its next job, which it answers."""
    job = await node.job()
    await node.answer(job)
    return job["src_lang"], job["tgt_lang"]


async def update(client: Client, **members: Any) -> Json:
    await client.say({"type": "session_update", "session_id": client.session_id, **members})
    return await client.until("session_update_ack", session_id=client.session_id)


class TestAvailability:
    async def test_served_languages_are_no_news(self, autojump_clock: MockClock) -> None:
        async with daemon_in_memory() as world:
            await world.node()
            client = await minder(world)
            assert await client.heard() == []

    async def test_missing_ones_are_told_at_once_with_what_there_is(self, autojump_clock: MockClock) -> None:
        async with daemon_in_memory() as world:
            await world.node()
            client = await minder(world, tgt_lang="fr")
            (event,) = await client.heard()
            assert (event["event"], event["error_code"]) == ("ERROR", "NO_AVAILABLE_NODE")
            assert event["details"] == {
                "src": "en",
                "tgt": "fr",
                "alternatives": [{"src": "en", "tgt": "es"}, {"src": "en", "tgt": "zh"}],
            }
            assert event["hint_zh"]

    async def test_what_appears_and_vanishes_is_told(self, autojump_clock: MockClock) -> None:
        async with daemon_in_memory() as world:
            client = await minder(world, tgt_lang="fr")
            await client.until("ui_event", event="ERROR")
            node = await french(world)
            assert (await client.until("ui_event"))["event"] == "LANGUAGES_AVAILABLE"
            await node.leave()
            event = await client.until("ui_event")
            assert (event["event"], event["details"]["tgt"]) == ("ERROR", "fr")
            await trio.sleep(60)
            assert await client.heard() == []

    async def test_two_way_sessions_need_both_directions(self, autojump_clock: MockClock) -> None:
        async with daemon_in_memory() as world:
            pairs = [{"src": "en", "tgt": "fr"}]
            await french(world, supported_language_pairs=pairs)
            pair = {"src_lang": "auto", "tgt_lang": "fr", "lang_a": "en", "lang_b": "fr"}
            client = await minder(world, mode="two_way_auto", auto_langs=["en", "fr"], **pair)
            (event,) = await client.heard()
            assert (event["details"]["src"], event["details"]["tgt"]) == ("fr", "en")

    async def test_update_is_looked_at(self, autojump_clock: MockClock) -> None:
        async with daemon_in_memory() as world:
            await world.node()
            client = await minder(world)
            await update(client, tgt_lang="fr")
            (event,) = await client.heard("ui_event")
            assert event["details"]["tgt"] == "fr"
            await update(client, tgt_lang="zh")
            assert await client.heard("ui_event") == []

    async def test_room_needs_what_its_members_hear(self, autojump_clock: MockClock) -> None:
        async with daemon_in_memory() as world:
            await world.node()
            speaker, listener = await minder(world), await minder(world)
            await speaker.say({"type": "room_create", "client_ts": 1})
            code = (await speaker.until("room_create_ack"))["room_code"]
            await speaker.heard()
            await listener.say({"type": "room_join", "room_code": code, "preferred_lang": "fr"})
            (event,) = await speaker.heard("ui_event")
            assert (event["details"]["src"], event["details"]["tgt"]) == ("en", "fr")
            assert len(await listener.heard("ui_event")) == 1
            await listener.say({"type": "room_leave", "room_code": code})
            await wait_all_tasks_blocked()
            assert await speaker.heard("ui_event") == []

    async def test_gateways_are_not_bothered(self, autojump_clock: MockClock) -> None:
        async with daemon_in_memory() as world:
            client = await minder(world, platform="api-gateway", tgt_lang="fr")
            assert await client.heard() == []


class TestUpdate:
    async def test_next_utterance_has_the_new_languages(self, autojump_clock: MockClock) -> None:
        async with daemon_in_memory() as world:
            node = await world.node()
            client = await world.client()
            await client.speak()
            assert await languages_of(node) == ("en", "es")
            ack = await update(client, src_lang="zh", tgt_lang="en")
            assert (ack["src_lang"], ack["tgt_lang"], ack["after_running"]) == ("zh", "en", False)
            await client.speak()
            assert await languages_of(node) == ("zh", "en")

    async def test_what_is_being_spoken_keeps_its_own(self, autojump_clock: MockClock) -> None:
        async with daemon_in_memory(sessions={"max_duration_ms": 1000}) as world:
            node = await world.node()
            client = await world.client()
            for _ in range(5):
                await client.chunk(plan_a())
            assert await languages_of(node) == ("en", "es")
            assert (await update(client, tgt_lang="zh"))["after_running"] is True
            await update(client, tgt_lang="zh", dialect="x")
            await client.chunk(plan_a())
            await client.chunk(final=True)
            assert await languages_of(node) == ("en", "es")
            await client.speak()
            assert await languages_of(node) == ("en", "zh")

    async def test_both_ways_and_back(self, autojump_clock: MockClock) -> None:
        async with daemon_in_memory() as world:
            node = await world.node()
            client = await world.client()
            ack = await update(client, lang_a="zh", lang_b="en")
            assert (ack["src_lang"], ack["lang_a"], ack["lang_b"]) == ("auto", "zh", "en")
            await client.speak()
            job = await node.job()
            assert (job["src_lang"], job["mode"], job["lang_a"]) == ("auto", "two_way_auto", "zh")
            assert job["auto_langs"] == ["zh", "en"]
            await update(client, src_lang="en", tgt_lang="es")
            await client.speak()
            job = await node.job()
            assert (job["src_lang"], job["tgt_lang"], job["mode"]) == ("en", "es", "one_way")
            assert "lang_a" not in job

    async def test_listener_changes_what_it_hears(self, autojump_clock: MockClock) -> None:
        async with daemon_in_memory() as world:
            node = await world.node()
            speaker, listener = await world.client(), await world.client(tgt_lang="es")
            await speaker.say({"type": "room_create", "client_ts": 1})
            code = (await speaker.until("room_create_ack"))["room_code"]
            await listener.say({"type": "room_join", "room_code": code})
            await speaker.speak()
            assert await languages_of(node) == ("en", "es")
            await update(listener, preferred_lang="zh")
            members = await speaker.until("room_members")
            members = (await speaker.heard("room_members") or [members])[-1]
            assert members["members"][1]["preferred_lang"] == "zh"
            await speaker.speak()
            assert await languages_of(node) == ("en", "zh")
