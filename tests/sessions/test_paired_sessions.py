"""A session that gave a node's pairing code is served by that node and no other (session-protocol 7)."""

from __future__ import annotations

import pytest
import trio
from harness import Json, Node, World, daemon_in_memory
from trio.testing import MockClock

from linguad.core.pairing import CODE_TTL_S
from linguad.core.tries import MAX_FAILED_TRIES


async def ask_code(node: Node) -> Json:
    """A code as the node is told it."""
    await node.say({"type": "request_pairing_code"})
    return await node.until("pairing_code")


async def two_nodes(world: World) -> tuple[Node, Node]:
    """The node that sessions are paired with, which takes no other jobs, and a public one."""
    return await world.node("mine", accept_public_jobs=False), await world.node("public")


async def test_paired_session_is_pinned_and_others_stay_away(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        mine, public = await two_nodes(world)
        told = await ask_code(mine)
        assert set(told) == {"type", "code", "expires_at_ms"}
        assert len(told["code"]) == 6
        paired, other = await world.stranger(), await world.client()
        ack = await paired.open(pairing_code=f" {told['code']} ")
        assert ack["assigned_node_id"] == "mine"
        assert world.daemon.sessions.paired_with("mine") == [paired.session_id]
        for index in range(3):
            await paired.utterance(index)
            await mine.answer(await mine.job())
            assert (await paired.result())["text_translated"] == f"oído {index}"
            await other.utterance(index)
            await public.answer(await public.job())
            await other.result()
        assert await mine.heard("job_assign") == await public.heard("job_assign") == []


@pytest.mark.parametrize("how", ["wrong", "used", "expired", "replaced"])
async def test_refused_code_leaves_an_unpaired_session_and_one_error(
    how: str, autojump_clock: MockClock
) -> None:
    async with daemon_in_memory() as world:
        mine, public = await two_nodes(world)
        code = (await ask_code(mine))["code"]
        match how:
            case "wrong":
                code = f"{(int(code) + 1) % 1_000_000:06d}"
            case "used":
                await world.client(pairing_code=code)
            case "expired":
                await trio.sleep(CODE_TTL_S)
            case "replaced":
                await ask_code(mine)
        client = await world.stranger()
        ack = await client.open(pairing_code=code)
        assert "assigned_node_id" not in ack
        error = await client.hear()
        assert (error["type"], error["code"]) == ("error", "INVALID_PAIRING_CODE")
        assert error["trace_id"] == ack["trace_id"]
        assert code not in error["message"]
        await client.speak()
        await public.answer(await public.job())
        await client.result()
        assert await client.heard("error") == []
        assert await mine.heard("job_assign") == []


@pytest.mark.parametrize("code", [None, "", " "])
async def test_no_code_is_no_error(code: str | None, autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client = await world.stranger()
        ack = await client.open(pairing_code=code)
        assert "assigned_node_id" not in ack
        assert await client.heard() == []


async def test_node_that_is_gone_is_waited_for_but_never_replaced(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        mine, public = await two_nodes(world)
        client = await world.client(pairing_code=(await ask_code(mine))["code"])
        await mine.drop()
        began = trio.current_time()
        await client.utterance(0)
        event = await client.until("ui_event", event="ERROR")
        assert event["error_code"] == "NODE_UNAVAILABLE"
        assert trio.current_time() - began == pytest.approx(10.0)
        assert (await client.until("missing_result"))["utterance_index"] == 0
        await client.utterance(1)
        back = await world.node("mine", accept_public_jobs=False)
        await back.answer(await back.job())
        assert (await client.result())["utterance_index"] == 1
        assert await public.heard("job_assign") == []


async def test_fallback_only_where_it_is_allowed(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(nodes={"pairing_allow_fallback": True}) as world:
        mine, public = await two_nodes(world)
        client = await world.client(pairing_code=(await ask_code(mine))["code"])
        await mine.drop()
        await client.utterance(0)
        await public.answer(await public.job())
        assert (await client.result())["utterance_index"] == 0


async def test_guessing_is_stopped_for_an_address(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        mine, _ = await two_nodes(world)
        code = (await ask_code(mine))["code"]
        guesser = await world.stranger()
        for number in range(MAX_FAILED_TRIES):
            await guesser.open(pairing_code=f"not {number}")
            await guesser.heard()
        assert "assigned_node_id" not in await guesser.open(pairing_code=code)
        await trio.sleep(61)
        assert (await guesser.open(pairing_code=code))["assigned_node_id"] == "mine"


async def test_refused_session_does_not_use_up_its_code(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(sessions={"max_sessions": 1}) as world:
        mine, _ = await two_nodes(world)
        code = (await ask_code(mine))["code"]
        first = await world.client()
        refused = await world.stranger()
        await refused.say({"type": "session_init", **_init(code)})
        assert (await refused.hear())["code"] == "NODE_OVERLOADED"
        assert (await first.open(pairing_code=code))["assigned_node_id"] == "mine"


async def test_code_is_for_registered_nodes_only(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.unregistered()
        await node.say({"type": "request_pairing_code"})
        assert await node.heard() == []


def _init(code: str) -> Json:
    return {
        "client_version": "1",
        "platform": "web",
        "src_lang": "en",
        "tgt_lang": "es",
        "pairing_code": code,
    }
