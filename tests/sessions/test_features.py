"""Features that a session asks for (promise "Feature-aware selection")."""

from __future__ import annotations

from harness import daemon_in_memory
from trio.testing import MockClock

ASKED = {"emotion_detection": True}


async def test_preferred_the_result_says_which_were_applied(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node(features_supported=ASKED)
        client = await world.client(features=ASKED | {"persona_adaptation": True})
        await client.utterance(0)
        await node.answer(await node.job())
        assert (await client.result())["extra"]["features_applied"] == ["emotion_detection"]


async def test_who_asks_for_none_is_told_nothing(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        client = await world.client(features={"emotion_detection": False})
        await client.utterance(0)
        assert "features_applied" not in (await client.result())["extra"]


async def test_required_and_nobody_has_them_is_told_at_the_start_and_with_each_job(
    autojump_clock: MockClock,
) -> None:
    async with daemon_in_memory(jobs={"features": "require"}) as world:
        await world.working_node()
        client = await world.client(features=ASKED)
        error = await client.until("error", code="UNSUPPORTED_FEATURE")
        assert "emotion_detection" in error["message"]
        await client.utterance(0)
        event = await client.until("ui_event", event="ERROR")
        assert (event["error_code"], event["details"]["features"]) == (
            "UNSUPPORTED_FEATURE",
            ["emotion_detection"],
        )
        assert (await client.until("missing_result"))["reason"] == "no_available_node"
