"""`linguad node` as a user runs it: a real process, real engines, a real socket, a played scheduler."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from patience import PATIENCE_S
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from linguad import audio, log
from linguad.cli import main

ROOT = Path(__file__).parent.parent.parent
SPEECH = ROOT / "demo/audio/house.wav"
SAID = (ROOT / "demo/audio/house.txt").read_text().strip()

Json = dict[str, Any]


class Scheduler:
    """Takes connections of nodes; the test talks on each of them as it likes."""

    def __init__(self, url: str, connections: trio.MemoryReceiveChannel[WebSocketConnection]) -> None:
        self.url = url
        self._connections = connections

    async def answer(self) -> WebSocketConnection:
        """The next connection."""
        return await self._connections.receive()


async def hear(ws: WebSocketConnection, kind: str) -> Json:
    """The next message of this type; heartbeats between are passed over."""
    while True:
        message: Json = json.loads(await ws.get_message())
        if message["type"] == kind:
            return message
        assert message["type"] == "node_heartbeat"


async def say(ws: WebSocketConnection, **message: Any) -> None:
    await ws.send_message(json.dumps(message))


async def accept(ws: WebSocketConnection, node_id: str) -> Json:
    registration = await hear(ws, "node_register")
    await say(ws, type="node_register_ack", node_id=node_id, message="registered", status="registering")
    return registration


@asynccontextmanager
async def scheduler() -> AsyncIterator[Scheduler]:
    taken, connections = trio.open_memory_channel[WebSocketConnection](8)

    async def take(request: WebSocketRequest) -> None:
        assert request.path == "/ws/node"
        ws = await request.accept()
        taken.send_nowait(ws)
        # The connection lives as long as its handler.
        await trio.sleep_forever()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            listening = partial(serve_websocket, take, "127.0.0.1", 0, None, max_message_size=2**26)
            server = await nursery.start(listening)
            yield Scheduler(f"ws://127.0.0.1:{server.port}/ws/node", connections)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def node(*arguments: str) -> AsyncIterator[trio.Process]:
    """`linguad node` with these arguments, killed at the end if it still runs."""
    command = [sys.executable, "-m", "linguad", "node", *arguments]
    process = await trio.lowlevel.open_process(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def descendants(pid: int) -> set[int]:
    """Processes below `pid` that run."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            parents[int(stat.parent.name)] = int(parent)
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def running(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists() and not is_zombie(pid)}


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something outside this process."""
    while not condition():  # noqa: ASYNC110 - the kernel tells no event
        await trio.sleep(0.01)


def job(job_id: str, index: int, seconds: float = 60) -> Json:
    """The first seconds of a spoken sentence."""
    pcm = audio.read_audio_file(SPEECH)[0][: round(seconds * audio.WIRE_RATE) * 2]
    return {
        "type": "job_assign",
        "job_id": job_id,
        "attempt_id": 1,
        "session_id": "s-1",
        "utterance_index": index,
        "src_lang": "en",
        "tgt_lang": "es",
        "pipeline": {"use_asr": True, "use_nmt": True, "use_tts": True},
        "audio": b64encode(audio.encode_plan_a(pcm, audio.WIRE_RATE)).decode(),
        "audio_format": "opus",
        "sample_rate": audio.WIRE_RATE,
        "trace_id": "t-1",
        "is_manual_cut": True,
    }


async def test_a_node_from_its_start_to_its_end() -> None:
    async with scheduler() as server, node("--server", server.url, "--reconnect-seconds", "0.1") as process:
        ws = await server.answer()
        registration = await accept(ws, "node-1")
        assert "node_id" not in registration
        assert registration["platform"] == "linux"
        assert registration["hardware"]["cpu_cores"] == os.cpu_count()
        services = {service["type"]: service["service_id"] for service in registration["installed_services"]}
        assert services == {"asr": "pocketsphinx", "nmt": "apertium", "tts": "espeak"}
        heartbeat = await hear(ws, "node_heartbeat")
        assert heartbeat["node_id"] == "node-1"

        await say(ws, **job("job-1", 0))
        result = await hear(ws, "job_result")
        assert result["success"] is True
        assert result["text_asr"] == SAID
        assert result["text_translated"] == "Queremos ir a la casa de mi padre"
        assert result["tts_format"] == "opus"
        assert len(audio.decode_plan_a(b64decode(result["tts_audio"]))) > audio.WIRE_RATE
        assert result["extra"]["service_timings"]["total_ms"] <= result["processing_time_ms"]

        await ws.aclose(1012)
        ws = await server.answer()
        first = json.loads(await ws.get_message())
        assert (first["type"], first["node_id"]) == ("node_heartbeat", "node-1")
        assert (await accept(ws, "node-1"))["node_id"] == "node-1"
        await say(ws, **job("job-1", 1))
        assert (await hear(ws, "job_result"))["error"]["message"].startswith("DUPLICATE_JOB_ID")

        engines = descendants(process.pid)
        assert len(engines) > 3
        process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            await hear(ws, "job_result")
        assert ws.closed is not None
        assert ws.closed.code == 1000
        assert await process.wait() == 0
        assert running(engines) == set()


async def test_a_killed_node_leaves_nothing_behind() -> None:
    async with scheduler() as server, node("--server", server.url) as process:
        ws = await server.answer()
        await accept(ws, "node-1")
        engines = descendants(process.pid)
        assert len(engines) == 3
        await say(
            ws,
            **job("job-1", 0, seconds=1) | {"pipeline": {"use_asr": True, "use_nmt": True, "use_tts": False}},
        )
        await hear(ws, "job_result")
        engines = descendants(process.pid)
        assert len(engines) > 3
        process.kill()
        await process.wait()
        await until(lambda: running(engines) == set())


async def test_echo_answers_in_any_language_with_the_audio_it_got() -> None:
    arguments = ("--engines", "echo", "--languages", "en,zh-CN,es", "--node-id", "node-E")
    async with scheduler() as server, node("--server", server.url, *arguments):
        ws = await server.answer()
        registration = await accept(ws, "node-E")
        assert registration["node_id"] == "node-E"
        assert registration["language_capabilities"]["asr_languages"] == ["en", "es", "zh"]
        assigned = job("job-1", 0)
        await say(ws, **assigned)
        result = await hear(ws, "job_result")
        assert (result["tts_audio"], result["tts_format"]) == (assigned["audio"], "opus")


async def test_a_signal_ends_a_node_that_reaches_no_scheduler() -> None:
    with trio.fail_after(PATIENCE_S):
        async with node("--server", "ws://127.0.0.1:1/ws/node") as process:
            await until(lambda: len(descendants(process.pid)) == 3)
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0


@pytest.fixture
def quiet() -> Iterator[None]:
    """Logging as it was before the command set it up."""
    yield
    log.reset()


@pytest.mark.usefixtures("quiet")
class TestCommandLine:
    def test_the_engines_are_listed(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["node", "--list-engines"]) == 0
        shown = capsys.readouterr().out
        for word in ("pocketsphinx", "asr", "apertium", "en>es", "es>en", "espeak", "tts", "more", "echo"):
            assert word in shown

    def test_what_is_missing_is_listed_with_its_cure(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", os.devnull)
        monkeypatch.setenv("COLUMNS", "200")
        assert main(["node", "--list-engines"]) == 0
        shown = capsys.readouterr().out
        assert "no: apertium is not installed; apt-get install apertium apertium-eng-spa" in shown
        assert "no: espeak-ng is not installed; apt-get install espeak-ng" in shown

    def test_without_any_engine_there_is_no_node(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", os.devnull)
        assert main(["node", "--server", "ws://127.0.0.1:1/", "--engines", "apertium,espeak"]) == 1
        assert capsys.readouterr().err == (
            "linguad: no engine works here (apertium, espeak); linguad node --list-engines tells why\n"
        )

    def test_without_a_language_pair_there_is_no_node(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", os.devnull)
        assert main(["node", "--server", "ws://127.0.0.1:1/"]) == 1
        assert capsys.readouterr().err == (
            "linguad: no language pair can be served: apertium is not installed; apt-get install apertium "
            "apertium-eng-spa, and espeak-ng is not installed; apt-get install espeak-ng\n"
        )

    def test_without_a_stage_there_is_no_node(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["node", "--server", "ws://127.0.0.1:1/", "--engines", "espeak"]) == 1
        assert "no engine for asr, nmt is in use; linguad node --list-engines" in capsys.readouterr().err

    def test_languages_that_make_no_pair_are_no_node(self, capsys: pytest.CaptureFixture[str]) -> None:
        echo = ["--engines", "echo", "--languages", "en"]
        assert main(["node", "--server", "ws://127.0.0.1:1/", *echo]) == 1
        assert "the engines have no languages in common" in capsys.readouterr().err

    @pytest.mark.parametrize("url", ["", "localhost:5010", "http://127.0.0.1:5010", "ws://", "ws://h:port/"])
    def test_an_address_that_is_none_is_refused(self, capsys: pytest.CaptureFixture[str], url: str) -> None:
        assert main(["node", "--server", url]) == 2
        assert "is not an address like ws://127.0.0.1:5010/ws/node" in capsys.readouterr().err

    def test_the_server_must_be_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["node"]) == 2
        assert "--server is missing" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["--engines", "whisper"], "there is no engine 'whisper'"),
            (["--engines", "echo,espeak"], "there is no engine 'echo' to combine"),
            (["--engines", ","], "names are expected"),
            (["--max-jobs", "0"], "'0' is not a number from 1 to 64"),
            (["--max-jobs", "many"], "'many' is not a number"),
            (["--reconnect-seconds", "nan"], "'nan' is not a number"),
            (["--speech-format", "mp3"], "invalid choice"),
        ],
    )
    def test_arguments_without_sense_are_refused(
        self, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["node", "--server", "ws://127.0.0.1:1/", *arguments])
        assert ended.value.code == 2
        assert sentence in capsys.readouterr().err
