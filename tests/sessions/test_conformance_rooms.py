"""What every implementation must pass: session-protocol 11.2, and the lines of 11.3 on more than one client.

Those are rooms, the earlier gateway with its many connections, and nodes that a session is paired with.
Rules: memory streams and autojump_clock, no threads, no sockets; the peers are real WebSocket clients.
"""

from __future__ import annotations

import re

import pytest
import trio
from harness import Client, Json, Node, World, base64, daemon_in_memory, plan_a, session_init
from meetings import jobs, join, meeting, members, polyglot
from trio.testing import MockClock

from linguad.core.pairing import CODE_TTL_S

ONE_WAY: Json = {"src_lang": "zh", "tgt_lang": "en"}
"""What web clients ask for in a room, whoever they are."""

CREATE: Json = {"type": "room_create", "client_ts": 1769900000000, "display_name": "Mina"}


async def enter(client: Client, wish: Json) -> tuple[str, list[Json]]:
    """Hello and a wish for a room at once, as web clients do; the code of the room and its members."""
    await client.say(session_init(**ONE_WAY))
    await client.say(wish)
    ack, entered, listing = [await client.hear() for _ in range(3)]
    kinds = [message["type"] for message in (ack, entered, listing)]
    assert kinds == ["session_init_ack", "room_create_ack", "room_members"]
    client.session_id = ack["session_id"]
    assert re.fullmatch(r"\d{6}", entered["room_code"])
    assert listing["room_code"] == entered["room_code"]
    return entered["room_code"], listing["members"]


async def test_transcript_11_2(autojump_clock: MockClock) -> None:
    """Two unmodified web clients; both ask for zh to en, and none says what it prefers."""
    async with daemon_in_memory() as world:
        node, a, b = await polyglot(world), await world.stranger(), await world.stranger()
        code, [mina] = await enter(a, CREATE)
        joined_at = mina.pop("joined_at")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", joined_at)
        names = {"participant_id": a.session_id, "session_id": a.session_id}
        assert mina == {**names, "display_name": "Mina", "raw_voice_preferences": {}}
        same, both = await enter(b, {"type": "room_join", "room_code": code, "display_name": "Olek"})
        assert same == code
        assert [member["display_name"] for member in both] == ["Mina", "Olek"]
        listing = await a.hear()
        assert (listing["type"], listing["room_code"], listing["members"]) == ("room_members", code, both)
        for kind, content in (
            ("webrtc_offer", {"sdp": {"type": "offer", "sdp": "v=0\r\n"}}),
            ("webrtc_answer", {"sdp": {"type": "answer", "sdp": "v=0\r\n"}}),
            ("webrtc_ice", {"candidate": {"candidate": "candidate:1 1 udp", "sdpMLineIndex": 0}}),
        ):
            signal = {"type": kind, "room_code": code, **content}
            for sender, receiver in ((a, b), (b, a)):
                await sender.say(signal | {"to": receiver.session_id})
                assert await receiver.hear() == signal | {"to": sender.session_id}
        for number, (speaker, listener) in enumerate(((b, a), (a, b), (a, b))):
            await speaker.speak()
            job = await node.job()
            assert (job["src_lang"], job["tgt_lang"]) == ("zh", "en")
            await node.answer(job)
            heard, echo = await listener.result(), await speaker.result()
            assert heard["session_id"] == echo["session_id"] == speaker.session_id
            assert heard["utterance_index"] == number, "the listener's own count"
            assert (heard["tts_audio"], heard["tts_format"]) == (base64(plan_a(5)), "pcm16")
            assert (echo["text_asr"], echo["tts_audio"]) == (heard["text_asr"], "")


async def test_ack_first_although_room_create_follows_at_once(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        code, _ = await enter(await world.stranger(), CREATE)
        _, both = await enter(await world.stranger(), {"type": "room_join", "room_code": code})
        assert len(both) == 2


async def test_socket_dropped_in_an_utterance(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await polyglot(world)
        _, [a, b] = await meeting(world, "en", "es")
        await a.chunk(plan_a(50))
        await a.heard()
        await a.drop()
        assert members(await b.until("room_members")) == [b.session_id]
        job = await node.job()
        assert job["audio"] == base64(plan_a(50))
        await node.answer(job)
        assert (await b.result())["session_id"] == a.session_id


async def test_two_speakers_with_equal_indices_and_one_listener(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        _, [a, b, c] = await meeting(world, "en", "en", "es")
        for speaker in (a, b, a, b):
            await speaker.speak()
            await speaker.result()
        heard = await c.heard("translation_result")
        assert [result["utterance_index"] for result in heard] == [0, 1, 2, 3]
        assert [result["session_id"] for result in heard] == [a.session_id, b.session_id] * 2


async def test_three_languages_with_different_latencies(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await polyglot(world)
        _, [a, b, c] = await meeting(world, "en", "es", "zh")
        for _ in range(2):
            await a.speak()
        first, second = await jobs(node, 2), await jobs(node, 2)
        assert first["es"]["session_id"] != first["zh"]["session_id"]
        for job in (first["zh"], second["zh"]):
            await node.answer(job, text_translated=f"zh {job['utterance_index']}")
        assert [(await c.result())["text_translated"] for _ in range(2)] == ["zh 0", "zh 1"]
        assert await b.heard("translation_result") == []
        await node.answer(second["es"], text_translated="es 1")
        await node.answer(first["es"], text_translated="es 0")
        assert [(await b.result())["text_translated"] for _ in range(2)] == ["es 0", "es 1"]
        assert await c.heard("translation_result", "missing_result", "ui_event", "asr_partial") == []
        told = await a.heard("translation_result")
        assert [result["text_translated"] for result in told] == ["es 0", "es 1"]


async def test_member_joins_between_cut_and_result(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await polyglot(world)
        code, [a, b] = await meeting(world, "en", "es")
        await a.speak()
        job = await node.job()
        late, other = await world.client(), await world.client()
        await join(late, code, "es")
        await join(other, code, "zh")
        await node.answer(job)
        assert (await b.result())["job_id"] == (await late.result())["job_id"]
        assert await other.heard("translation_result") == []


async def test_gateway_flow_with_silence_and_a_node_failure(autojump_clock: MockClock) -> None:
    """A connection opens the session and is dropped; then one for each utterance waits for one result."""
    async with daemon_in_memory() as world:
        node, first = await world.node(), await world.stranger()
        ack = await first.open(
            platform="api-gateway", client_version="1.0.0", features=None, tenant_id="shop"
        )
        await first.drop()

        async def call(index: int) -> Client:
            client = await world.stranger()
            client.session_id = ack["session_id"]
            await client.utterance(index, bytes(32000), audio_format="pcm16", manual_cut=False)
            return client

        async def answered(client: Client, text: str) -> None:
            result = await client.result(session_id=ack["session_id"])
            assert (result["text_translated"], result["text_asr"] == "") == (text, text == "")
            await trio.sleep(20)
            assert await client.heard("translation_result", "missing_result", "error") == []
            assert client.connected
            await client.drop()

        spoken = await call(0)
        await node.answer(await node.job())
        await answered(spoken, "oído 0")
        silent = await call(1)
        nothing = {"text_asr": "", "text_translated": "", "tts_audio": ""}
        await node.answer(await node.job(), **nothing, extra={"reason": "ASR_EMPTY"})
        await answered(silent, "")
        failed = await call(2)
        await node.fail(await node.job(), message="Unsupported audio format: pcm16")
        await answered(failed, "")
        lost = await call(2)
        await node.job()
        await node.drop()
        await answered(lost, "")
        await world.working_node()
        await answered(await call(2), "oído 2")


async def code_of(node: Node) -> str:
    """A pairing code as the node is told it."""
    await node.say({"type": "request_pairing_code"})
    code: str = (await node.until("pairing_code"))["code"]
    return code


async def mine_and_public(world: World) -> tuple[Node, Node]:
    """A node for its owner's sessions alone, and one for all."""
    return await world.node("mine", accept_public_jobs=False), await world.node("public")


async def test_pairing_code_valid_then_reused(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        mine, public = await mine_and_public(world)
        code = await code_of(mine)
        paired, other = await world.stranger(), await world.stranger()
        assert (await paired.open(pairing_code=code))["assigned_node_id"] == "mine"
        assert "assigned_node_id" not in await other.open(pairing_code=code)
        assert (await other.hear())["code"] == "INVALID_PAIRING_CODE"
        await paired.speak()
        await other.speak()
        assert (await mine.job())["session_id"] == paired.session_id
        assert (await public.job())["session_id"] == other.session_id


async def test_pairing_code_expired(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        mine, public = await mine_and_public(world)
        code = await code_of(mine)
        await trio.sleep(CODE_TTL_S)
        client = await world.stranger()
        assert "assigned_node_id" not in await client.open(pairing_code=code)
        assert (await client.hear())["code"] == "INVALID_PAIRING_CODE"
        await client.speak()
        await public.job()
        assert await mine.heard("job_assign") == []


async def test_paired_node_is_offline(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        mine, public = await mine_and_public(world)
        client = await world.client(pairing_code=await code_of(mine))
        await mine.drop()
        before = trio.current_time()
        await client.speak()
        event = await client.until("ui_event", event="ERROR", utterance_index=0)
        assert event["error_code"] == "NODE_UNAVAILABLE"
        assert trio.current_time() - before == pytest.approx(10, abs=0.1)
        assert (await client.until("missing_result"))["utterance_index"] == 0
        assert await public.heard("job_assign") == []
