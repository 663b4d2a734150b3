"""Engines in their processes: real engines, real pipes, real signals; nothing here measures time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from linguad import audio
from linguad.errors import EngineError
from linguad.worker.engines import ENGINES
from linguad.worker.engines.base import Kind, Recognise, Speak, Speech, Text, Translate
from linguad.worker.process import EngineProcess, probe

ROOT = Path(__file__).parent.parent.parent
PATIENCE_SECONDS = 100
"""Ends a test that would wait for ever."""

GOOD_MORNING = Translate("good morning", "en", "es")


@asynccontextmanager
async def started(name: str, request_seconds: float = PATIENCE_SECONDS) -> AsyncIterator[EngineProcess]:
    with trio.fail_after(2 * PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            engine = EngineProcess(name, request_seconds=request_seconds)
            await nursery.start(engine.serve)
            yield engine
            nursery.cancel_scope.cancel()


def pid_of(engine: EngineProcess) -> int:
    assert engine.pid is not None
    return engine.pid


def alive(pid: int) -> bool:
    """Whether the process runs; what nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something outside this process."""
    with trio.fail_after(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - the kernel tells no event
            await trio.sleep(0.01)


def long_speech() -> bytes:
    """Speech in which PocketSphinx hears something."""
    return audio.read_audio_file(ROOT / "demo/audio/house.wav")[0]


@pytest.mark.parametrize("name", ENGINES)
async def test_every_engine_introduces_itself(name: str) -> None:
    hello = await probe(name)
    assert hello.problem is None
    assert hello.kind in Kind
    assert hello.languages or hello.pairs


async def test_an_unknown_engine_has_no_process() -> None:
    with pytest.raises(EngineError, match="the process of whisper ended"):
        await probe("whisper")


async def test_requests_of_many_tasks_are_answered_each_with_its_own_answer() -> None:
    words = ["house", "father", "sun", "plan", "year"] * 4
    answers: dict[int, str] = {}

    async def ask(number: int, word: str) -> None:
        answers[number] = (await engine.call(Translate(f"the {word}", "en", "es"), Text)).text

    async with started("apertium") as engine, trio.open_nursery() as nursery:
        for number, word in enumerate(words):
            nursery.start_soon(ask, number, word)
    translations = {
        "house": "La casa",
        "father": "El padre",
        "sun": "El sol",
        "plan": "El plan",
        "year": "El año",
    }
    assert [answers[number] for number in range(len(words))] == [translations[word] for word in words]


async def test_a_refusal_names_its_reason_and_the_engine_lives() -> None:
    async with started("espeak") as engine:
        pid = pid_of(engine)
        with pytest.raises(EngineError, match="voice does not exist"):
            await engine.call(Speak("hola", "xx"), Speech)
        with pytest.raises(EngineError, match="asked for something else"):
            await engine.call(GOOD_MORNING, Text)
        assert (await engine.call(Speak("hola", "es"), Speech)).pcm16
        assert engine.pid == pid


async def test_a_killed_engine_fails_its_request_and_the_next_one_works() -> None:
    async with started("pocketsphinx") as engine:
        pid = pid_of(engine)
        # It gets the request and does not come to answer it.
        os.kill(pid, signal.SIGSTOP)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def kill() -> None:
                await wait_all_tasks_blocked()
                os.kill(pid, signal.SIGKILL)

            with pytest.raises(EngineError, match="ended in the middle of a request"):
                await engine.call(Recognise(bytes(32_000), "en"), Text)
        assert not engine.is_running
        assert (await engine.call(Recognise(bytes(32_000), "en"), Text)).text == ""
        assert engine.pid not in (None, pid)


async def test_an_engine_that_dies_between_requests_is_started_anew() -> None:
    async with started("espeak") as engine:
        for _ in range(2):
            pid = pid_of(engine)
            os.kill(pid, signal.SIGKILL)
            await until(lambda pid=pid: engine.pid not in (None, pid))  # type: ignore[misc]
            assert (await engine.call(Speak("hola", "es"), Speech)).pcm16


async def test_a_hung_engine_fails_its_request_and_is_replaced() -> None:
    async with started("espeak", request_seconds=1) as engine:
        pid = pid_of(engine)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(EngineError, match="did not answer within 1 s"):
            await engine.call(Speak("hola", "es"), Speech)
        await until(lambda: engine.pid not in (None, pid))
        # A busy machine may take longer for the next one.
        engine._request_seconds = PATIENCE_SECONDS
        assert (await engine.call(Speak("hola", "es"), Speech)).pcm16
        assert not alive(pid)


async def test_a_request_that_was_given_up_leaves_the_next_one_its_own_answer() -> None:
    async with started("pocketsphinx") as engine:
        pid = pid_of(engine)
        os.kill(pid, signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            # Less than a pipe holds, so that it is sent although nobody reads it.
            nursery.start_soon(engine.call, Recognise(long_speech()[:60_000], "en"), Text)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        os.kill(pid, signal.SIGCONT)
        assert (await engine.call(Recognise(bytes(32_000), "en"), Text)).text == ""
        assert engine.pid == pid


async def test_an_engine_ends_with_its_task() -> None:
    async with started("pocketsphinx") as engine:
        pid = pid_of(engine)
    assert not alive(pid)
    assert not engine.is_running


async def test_an_engine_ends_with_a_node_that_is_killed_even_while_it_calculates() -> None:
    node = """
import sys, trio
from linguad.worker.engines.base import Recognise, Text
from linguad.worker.process import EngineProcess
async def main():
    async with trio.open_nursery() as nursery:
        engine = EngineProcess("pocketsphinx")
        await nursery.start(engine.serve)
        nursery.start_soon(engine.call, Recognise(open(sys.argv[1], "rb").read() * 20, "en"), Text)
        await trio.sleep(0.2)
        print(engine.pid, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", node, str(ROOT / "demo/audio/house.wav")]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    async with process.stdout:
        engine = int(await process.stdout.receive_some())
        assert alive(engine)
        process.kill()
        await process.wait()
    await until(lambda: not alive(engine))


async def test_an_engine_that_cannot_work_says_why_at_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    async with trio.open_nursery() as nursery:
        with pytest.raises(EngineError, match="apt-get install apertium apertium-eng-spa"):
            await nursery.start(EngineProcess("apertium").serve)
