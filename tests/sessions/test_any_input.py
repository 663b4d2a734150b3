"""Whatever comes in whatever order: frames of a client, results of a node (session-protocol 2.1, 5.5).

Rules: each example has a daemon on memory streams and a fake clock; the peers are real WebSocket clients.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio
from harness import Client, Json, World, daemon_in_memory, plan_a
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from trio.testing import MockClock
from trio_websocket import ConnectionClosed

GOLDEN: list[Json] = [
    json.loads(file.read_text())
    for file in sorted((Path(__file__).parents[1] / "wire/golden/client").glob("*.json"))
]
GAP_S = 3.0
"""How long a result waits for those before it at most, s."""

TIMES = {"failover_max_attempts": 1, "timeout_base_seconds": 40, "timeout_factor": 0}
"""Longer than a story lasts; a job without answer ends 90 s after it was asked for."""

crashes = partial(REGISTRY.get_sample_value, "linguad_link_crashes_total", {"kind": "session"})


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run it on a clock that jumps."""
    trio.run(main, clock=MockClock(autojump_threshold=0))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=12)
    | st.sampled_from(["en", "es", "auto", "web", "api-gateway", "ios", "opus", "pcm16", "\udc80", "AAAB"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)


@st.composite
def messages(draw: st.DrawFn) -> Json:
    """A message that clients send, with some of its members missing, or replaced by anything."""
    message = dict(draw(st.sampled_from(GOLDEN)))
    for name in draw(st.lists(st.sampled_from(sorted(message)), max_size=2)):
        if draw(st.booleans()):
            message[name] = draw(json_values)
        else:
            message.pop(name, None)
    return message


binary_frames = st.tuples(st.sampled_from([1, 2, 0x10, 255]), st.integers(-1, 1), st.binary(max_size=40))
"""Its kind, by how much the length it tells of its session's name is wrong, and what it holds after that."""

texts = json_values.map(json.dumps) | st.text(max_size=60)
frames = st.one_of(*[messages()] * 7, texts, st.binary(max_size=60), binary_frames)
Frame = Json | str | bytes | tuple[int, int, bytes]

waits = st.sampled_from([0.0, 0.0, 0.0, 0.0, 0.05, 4.0, 40.0])
stories = st.lists(st.tuples(frames, waits), min_size=12, max_size=30)


class Stranger:
    """A client that sends anything, and learns the names it is given so that it is not refused for them."""

    def __init__(self, world: World, platform: str) -> None:
        self._world = world
        self._platform = platform
        self._room_code = "503118"
        self.client: Client

    async def connect(self) -> None:
        """On another connection, without a session."""
        self.client = await self._world.stranger()

    async def hello(self) -> None:
        """Another session."""
        await self.client.open(platform=self._platform, use_binary_frame=self._platform == "binary")

    async def send(self, frame: Frame) -> None:
        """Say it, and hear what is answered; closed for it, connect again."""
        try:
            await self.client.say(self._with_names(frame))
            for message in await self.client.heard():
                match message["type"]:
                    case "session_init_ack":
                        self.client.session_id = message["session_id"]
                    case "session_close_ack":
                        self.client.session_id = ""
                    case "room_create_ack":
                        self._room_code = message["room_code"]
        except ConnectionClosed:
            assert (await self.client.closed())[0] == 1008
            await self.connect()

    def _with_names(self, frame: Frame) -> Json | str | bytes:
        if isinstance(frame, tuple):
            kind, wrong, data = frame
            name = self.client.session_id.encode()
            return bytes([kind, max(0, len(name) + wrong)]) + bytes(10 if kind == 1 else 8) + name + data
        if isinstance(frame, dict):
            names = {"session_id": self.client.session_id, "room_code": self._room_code}
            return frame | {name: names[name] for name in names if isinstance(frame.get(name), str)}
        return frame


@given(st.lists(frames, max_size=4), stories, st.sampled_from(["web", "ios", "api-gateway", "binary"]))
@settings(max_examples=60)
def test_any_frames_are_an_error_or_a_close_and_never_a_crash_or_a_stuck_session(
    early: list[Frame], story: list[tuple[Frame, float]], platform: str
) -> None:
    """`early` is what comes before `session_init`."""

    async def main() -> None:
        async with daemon_in_memory() as world:
            await world.working_node()
            stranger = Stranger(world, platform)
            await stranger.connect()
            for frame in early:
                await stranger.send(frame)
            for frame, wait_s in story:
                if not stranger.client.session_id:
                    await stranger.hello()
                await stranger.send(frame)
                await trio.sleep(wait_s)
            await still_works(stranger.client)
            other = await world.client()
            await other.speak()
            assert (await other.result())["utterance_index"] == 0

    before = crashes()
    run(main)
    assert crashes() == before


async def still_works(client: Client) -> None:
    """Its session translates, if it has one, and its socket takes another one."""
    if client.session_id:
        await client.heartbeat()
        await client.utterance(987_654_321, plan_a(60))
        await client.result(text_translated="oído 987654321")
    await client.open()
    await client.speak()
    await client.result(session_id=client.session_id, utterance_index=0)


ends = st.sampled_from(["heard", "heard", "heard", "twice", "empty", "failed", "never"])
utterances = st.lists(st.tuples(st.sampled_from(["es", "zh"]), ends), min_size=1, max_size=10)


@given(
    utterances,
    st.randoms(use_true_random=False),
    st.lists(st.sampled_from([0.0, 0.5, 2.9, 3.1]), min_size=10),
)
@settings(max_examples=60)
def test_any_interleaving_of_results_is_delivered_in_order(
    said: list[tuple[str, str]], random: Any, waits: list[float]
) -> None:
    async def main() -> None:
        async with daemon_in_memory(jobs=TIMES) as world:
            node, client = await world.node(max_concurrent_jobs=64), await world.client()
            heard: list[tuple[float, Json]] = []
            answered: dict[int, float] = {}

            async def listen() -> None:
                while True:
                    message = await client.hear()
                    if message["type"] in ("translation_result", "missing_result"):
                        heard.append((trio.current_time(), message))

            for index, (tgt_lang, _) in enumerate(said):
                await client.utterance(index, tgt_lang=tgt_lang)
            jobs = [await node.job() for _ in said]
            world.nursery.start_soon(listen)
            random.shuffle(jobs)
            for job, wait_s in zip(jobs, waits, strict=False):
                index = job["utterance_index"]
                answered[index] = trio.current_time()
                match said[index][1]:
                    case "heard" | "twice":
                        await node.answer(job)
                    case "empty":
                        await node.answer(job, text_asr="", text_translated="", tts_audio="")
                    case "failed":
                        await node.fail(job, message="Unsupported audio format: opus")
                    case "never":
                        del answered[index]
                if said[index][1] == "twice":
                    await node.answer(job)
                await trio.sleep(wait_s)
            await trio.sleep(100)
            for tgt_lang in ("es", "zh"):
                check(
                    [index for index, (lang, _) in enumerate(said) if lang == tgt_lang], said, answered, heard
                )

    run(main)


def check(
    indices: list[int],
    said: list[tuple[str, str]],
    answered: dict[int, float],
    heard: list[tuple[float, Json]],
) -> None:
    """What the client was told of the utterances of one language."""
    ours = [(at, message) for at, message in heard if message["utterance_index"] in indices]
    on_time = [message["utterance_index"] for _, message in ours if not message.get("late")]
    assert on_time == indices, "each has one end, in order"
    for place, index in enumerate(indices):
        results = [
            (at, message)
            for at, message in ours
            if message["utterance_index"] == index and message["type"] == "translation_result"
        ]
        if said[index][1] not in ("heard", "twice"):
            assert results == []
            continue
        [(delivered_at, message)] = results
        assert message["text_translated"] == f"oído {index}"
        waited_s = delivered_at - answered[index]
        assert waited_s < GAP_S + 0.01
        before = [answered.get(earlier, float("inf")) for earlier in indices[:place]]
        if message.get("late") or all(at <= answered[index] for at in before):
            assert waited_s < 0.01, "nothing to wait for"
