"""Mobile clients: rows of tiny utterances, and which language was heard (session-protocol 1.10)."""

from __future__ import annotations

import base64 as b64

import trio
from harness import Client, daemon_in_memory
from trio.testing import MockClock

PACKET_MS = 200


def pcm16(mark: int, ms: int = PACKET_MS) -> bytes:
    return mark.to_bytes(2, "little") * (16 * ms)


async def packet(
    client: Client, index: int, *, flush: bool = False, ms: int = PACKET_MS, tgt: str = "es"
) -> None:
    """What a mobile client sends every 200 ms."""
    await client.utterance(
        index, pcm16(1000 + index, ms), audio_format="pcm16", manual_cut=flush, tgt_lang=tgt, features=None
    )


async def test_row_of_packets_is_one_utterance(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        client = await world.client(platform="ios")
        for index in range(40, 50):
            await packet(client, index)
            await trio.sleep(PACKET_MS / 1000)
        assert await node.heard("job_assign") == []
        job = await node.job()
        assert job["audio_format"] == "pcm16"
        assert b64.b64decode(job["audio"]) == b"".join(pcm16(1000 + index) for index in range(40, 50))
        assert job["utterance_index"] == 40
        assert job["is_timeout_triggered"] is True
        await packet(client, 50)
        await packet(client, 51, ms=300, flush=True)
        job = await node.job()
        assert (job["utterance_index"], job["is_manual_cut"]) == (50, True)


async def test_whole_sentences_are_taken_as_they_are(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        client = await world.client(platform="android")
        await packet(client, 7, ms=1500)
        assert (await node.job())["utterance_index"] == 7


async def test_another_language_begins_another_utterance(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        client = await world.client(platform="ios", tgt_lang="zh")
        for index in range(6):
            await packet(client, index, tgt="zh" if index < 3 else "es")
        jobs = [await node.job(), await node.job()]
        assert [job["tgt_lang"] for job in jobs] == ["zh", "es"]
        assert [len(b64.b64decode(job["audio"])) for job in jobs] == [3 * len(pcm16(0))] * 2


async def test_others_mean_what_they_send(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        client = await world.client()
        await packet(client, 0)
        assert len(b64.b64decode((await node.job())["audio"])) == len(pcm16(0))


async def test_language_that_was_heard_is_told_to_mobile_clients(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        clients = [await world.client(platform=platform) for platform in ("android", "web")]
        for client in clients:
            await packet(client, 0, ms=1500)
            await node.answer(await node.job(), extra={"language_probabilities": {"en": 0.9, "es": 0.1}})
        detected = await clients[0].until("language_detected")
        assert (detected["lang"], detected["confidence"]) == ("en", 0.9)
        assert await clients[1].heard("language_detected") == []
