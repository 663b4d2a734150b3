"""Speech reaches every receiver in a format that it plays (session-protocol 1.8, resolution 8).

Rules: real codecs in real threads, so a real clock; what is heard is compared by its length and loudness.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from harness import Node, World, base64, daemon_in_memory, plan_a
from hypothesis import given, settings
from hypothesis import strategies as st
from meetings import meeting
from msgspec.structs import replace
from patience import PATIENCE_S
from prometheus_client import REGISTRY
from tones import is_tone, speech

from linguad.errors import AudioError
from linguad.net.outbox import Later
from linguad.sessions.speech import MAX_SECONDS, MAX_WAITING, Speech, pcm16_of
from linguad.wire import opus
from linguad.wire.session import TranslationResult

conversions = partial(REGISTRY.get_sample_value, "linguad_speech_seconds_count")
undecodable = partial(REGISTRY.get_sample_value, "linguad_speech_undecodable_total")
overload = partial(REGISTRY.get_sample_value, "linguad_speech_overload_total")


NOISE = base64(plan_a(5))
"""Well-formed records that hold no sound."""


@asynccontextmanager
async def network() -> AsyncIterator[tuple[World, Node]]:
    """A daemon with a node for which the test answers."""
    with trio.fail_after(PATIENCE_S):
        async with daemon_in_memory() as world:
            yield world, await world.node(max_concurrent_jobs=20)


async def test_web_client_in_a_room_gets_pcm16() -> None:
    async with network() as (world, node):
        _, [a, b] = await meeting(world, "en", "es")
        await a.speak()
        await node.answer(await node.job(), tts_audio=speech(2.5), tts_format="opus")
        heard = await b.result()
        assert heard["tts_format"] == "pcm16"
        assert is_tone(heard, 2.5)
        assert (heard["text_asr"], heard["session_id"]) == ("heard 0", a.session_id)
        assert (await a.result())["tts_audio"] == ""


async def test_speech_is_converted_once_for_a_whole_room() -> None:
    before = conversions() or 0.0
    async with network() as (world, node):
        _, [a, *others] = await meeting(world, "en", "es", "es", "es")
        sound = speech()
        for count in (1, 2):
            await a.speak()
            await node.answer(await node.job(), tts_audio=sound, tts_format="opus")
            for listener in others:
                assert is_tone(await listener.result(), 1.0)
            # Nothing is kept of what was delivered.
            assert conversions() == before + count


@pytest.mark.parametrize("platform", ["android", "ios"])
async def test_mobile_client_gets_pcm16_everywhere(platform: str) -> None:
    async with network() as (world, node):
        client = await world.client(platform=platform)
        await client.speak()
        await node.answer(await node.job(), tts_audio=speech(), tts_format="opus")
        heard = await client.result()
        assert heard["tts_format"] == "pcm16"
        assert is_tone(heard, 1.0)


async def test_web_client_outside_rooms_gets_what_the_node_sent() -> None:
    before = conversions() or 0.0
    async with network() as (world, node):
        code, [_, b] = await meeting(world, "en", "es")
        await b.say({"type": "room_leave", "room_code": code})
        sound = speech()
        for index, client in enumerate((b, await world.client())):
            await client.utterance(index)
            await node.answer(await node.job(), tts_audio=sound, tts_format="opus")
            heard = await client.result()
            assert (heard["tts_audio"], heard["tts_format"]) == (sound, "opus")
        assert (conversions() or 0.0) == before


@pytest.mark.parametrize(("platform", "audio_format"), [("android", "pcm16"), ("desktop", "opus")])
async def test_what_the_receiver_plays_is_not_touched(platform: str, audio_format: str) -> None:
    async with network() as (world, node):
        _, [a, b] = await meeting(world, "en", "es", platform=platform)
        await a.speak()
        await node.answer(await node.job(), tts_format=audio_format)
        heard = await b.result()
        assert (heard["tts_audio"], heard["tts_format"]) == (NOISE, audio_format)


async def test_what_follows_does_not_overtake() -> None:
    async with network() as (world, node):
        client = await world.client(platform="android")
        for index in range(4):
            await client.utterance(index, plan_a(60))
        jobs = [await node.job() for _ in range(4)]
        await node.answer(jobs[0], tts_audio=speech(20.0), tts_format="opus")
        await node.answer(jobs[1], text_asr="", text_translated="", tts_audio="")
        await node.answer(jobs[2], tts_audio=speech(0.1), tts_format="opus")
        await node.answer(jobs[3], tts_audio="")
        got: list[Any] = []
        while len(got) < 4:
            message = await client.hear()
            if message["type"] in ("translation_result", "missing_result"):
                got.append((message["utterance_index"], len(b64decode(message.get("tts_audio", "")))))
        assert got == [(0, 20 * 32000), (1, 0), (2, 3200), (3, 0)]


@pytest.mark.parametrize("sound", [NOISE, "bm90IGEgcnVuIG9mIHBhY2tldHM=", "not base64", "Ж"])
async def test_text_arrives_although_its_speech_is_noise(sound: str) -> None:
    before = undecodable() or 0.0
    async with network() as (world, node):
        client = await world.client(platform="ios")
        await client.speak()
        await node.answer(await node.job(), tts_audio=sound, tts_format="opus")
        heard = await client.result()
        assert (heard["text_translated"], heard["tts_audio"]) == ("oído 0", "")
        assert undecodable() == before + 1
        await client.speak()
        await node.answer(await node.job(), tts_audio=speech(), tts_format="opus")
        assert is_tone(await client.result(), 1.0)


def result(sound: str) -> TranslationResult:
    return TranslationResult(
        session_id="s-1",
        utterance_index=0,
        job_id="job-1",
        text_asr="one",
        text_translated="uno",
        tts_audio=sound,
        tts_format="opus",
        trace_id="t-1",
    )


async def test_text_does_not_wait_where_too_much_speech_does() -> None:
    """Nobody converts here."""
    before = overload() or 0.0
    converter = Speech()
    for number in range(MAX_WAITING):
        assert isinstance(converter.playable(result(f"A{number:03}")), Later)
    frame = converter.playable(result("one more"))
    assert isinstance(frame, str)
    assert '"tts_audio":""' in frame
    assert overload() == before + 1
    # Another receiver of what waits costs no work.
    assert isinstance(converter.playable(result("A000")), Later)


async def test_estimate_is_near_the_truth() -> None:
    """What one is promised counts in its outbox before it is there."""
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            converter = Speech()
            later = converter.playable(result(speech(3.0)))
            assert isinstance(later, Later)
            estimate = later.size
            nursery.start_soon(converter.run)
            made = await later.wait()
            assert later.size == len(made)
            assert 0.5 < estimate / len(made) < 2
            nursery.cancel_scope.cancel()


async def test_time_of_sending_is_after_the_conversion() -> None:
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            converter = Speech()
            later = converter.playable(replace(result(speech()), scheduler_sent_at_ms=1769900000000))
            assert isinstance(later, Later)
            await trio.sleep(0.1)
            nursery.start_soon(converter.run)
            made = json.loads(await later.wait())
            assert made["scheduler_sent_at_ms"] >= 1769900000100
            nursery.cancel_scope.cancel()


def test_longest_speech() -> None:
    packet = opus.join([b"\xf8\x01"])
    packets = MAX_SECONDS * 1000 // opus.PACKET_MS
    assert len(b64decode(pcm16_of(base64(packet * packets)))) == packets * 640
    with pytest.raises(AudioError, match="longer than 120 s"):
        pcm16_of(base64(packet * (packets + 1)))


@given(text=st.text(max_size=300) | st.binary(max_size=300).map(base64))
@settings(max_examples=100)
def test_any_text_is_whole_packets_or_refused(text: str) -> None:
    try:
        pcm16 = pcm16_of(text)
    except AudioError:
        return
    assert len(b64decode(pcm16, validate=True)) % 640 == 0
