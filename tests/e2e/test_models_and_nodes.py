"""Hub, nodes and scheduler together: who lacks a model says so, another does the job, the hub makes him able.

Real daemon with its hub, real `linguad hub publish`, real `linguad node`; the other node speaks the protocol.
"""

from __future__ import annotations

import json
import shutil
import signal
from functools import partial
from pathlib import Path

import pocketsphinx
import trio
from harness import Json
from processes import DaemonProcess, Process, clean_environment, command, linguad

from linguad import audio

MODEL = "pocketsphinx-en-us"
SOUND = Path(__file__).parents[2] / "demo/audio/house.wav"
SAID = SOUND.with_suffix(".txt").read_text().strip()
LACK = {
    "code": "MODEL_NOT_AVAILABLE",
    "message": f"Model {MODEL}@1.0.0 unavailable: not_installed",
    "details": {"service_id": MODEL, "service_version": "1.0.0", "reason": "not_installed"},
}


def model_directory(directory: Path) -> Path:
    """The model that the package brings along, without what is not used."""
    target = directory / "model"
    unused = shutil.ignore_patterns("*-phone.lm.bin")
    shutil.copytree(pocketsphinx.get_model_path("en-us"), target, ignore=unused)
    return target


def speech() -> bytes:
    """A sentence as web clients send it."""
    return audio.encode_plan_a(audio.read_audio_file(SOUND)[0], audio.WIRE_RATE)


async def publish(hub: str, directory: Path) -> None:
    """Have the hub offer the model."""
    words = ("hub", "publish", MODEL, "1.0.0", directory, "--hub", hub, "--task", "asr", "--languages", "en")
    done = await trio.to_thread.run_sync(partial(linguad, *words))
    assert done.returncode == 0, done.stderr


def place(daemon: DaemonProcess, name: str, **members: object) -> tuple[int, Json]:
    """An event of the daemon's log, and where it stands there."""
    found = [
        (at, event)
        for at, event in enumerate(daemon.events)
        if event["event"] == name and members.items() <= event.items()
    ]
    (one,) = found
    return one


async def test_a_job_goes_from_a_node_without_its_model_to_one_that_fetched_it(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path, log={"level": "debug"})
    url = f"ws://127.0.0.1:{await daemon.port()}/ws/node"
    hub = f"http://127.0.0.1:{(await daemon.event('listening', door='hub'))['port']}"
    words = (
        "node",
        "--server",
        url,
        "--hub",
        hub,
        "--data-dir",
        tmp_path / "data",
        "--speech-format",
        "pcm16",
    )
    fetcher = Process(command(*words), clean_environment(), tmp_path)
    try:
        # The hub has no model yet: the node is there, with all but the recogniser.
        await fetcher.event("model_missing", model=MODEL)
        mine = (await fetcher.event("node_accepted"))["node"]
        assert (await daemon.ask("GET", "/api/v1/languages"))["pairs"] == []

        async with daemon.node() as lacking, daemon.client() as client:
            await client.utterance(0, speech())
            job = await lacking.job()
            await publish(hub, model_directory(tmp_path))
            await fetcher.event("model_installed", model=MODEL)
            await fetcher.event("node_standing", node=mine, status="ready")
            await lacking.answer(
                job,
                success=False,
                error=LACK,
                **dict.fromkeys(("text_asr", "text_translated", "tts_audio", "tts_format", "extra")),
            )
            result = await client.result()
        assert (result["text_asr"], result["utterance_index"]) == (SAID, 0)
        assert result["text_translated"]
        refused, _ = place(daemon, "attempt_ended", node=lacking.id)
        moved, _ = place(daemon, "job_dispatched", node=mine)
        finished, done = place(daemon, "job_finished")
        assert refused < moved < finished
        assert (done["node"], done["attempts"]) == (mine, 2)
        (model,) = json.loads((tmp_path / "data/models/registry.json").read_text())[MODEL].values()
        assert model["status"] == "ready"

        fetcher.signal(signal.SIGTERM)
        assert (await fetcher.ended(), fetcher.complaints) == (0, [])
        daemon.stop()
    finally:
        fetcher.clear_away()
        daemon.clear_away()


async def test_of_two_nodes_the_one_with_the_model_gets_the_job(tmp_path: Path) -> None:
    """A real node never offers what it lacks, so nothing has to be moved."""
    daemon = DaemonProcess(tmp_path, log={"level": "debug"})
    url = f"ws://127.0.0.1:{await daemon.port()}/ws/node"
    hub = f"http://127.0.0.1:{(await daemon.event('listening', door='hub'))['port']}"
    words = ("node", "--server", url, "--speech-format", "pcm16")
    lacking = Process(
        command(*words, "--hub", hub, "--data-dir", tmp_path / "data"), clean_environment(), tmp_path
    )
    having = Process(command(*words), clean_environment(), tmp_path)
    try:
        await lacking.event("model_missing", model=MODEL)
        await lacking.event("node_accepted")
        able = (await having.event("node_accepted"))["node"]
        await having.event("node_standing", node=able, status="ready")
        async with daemon.client() as client:
            for index in range(3):
                await client.utterance(index, speech())
                assert (await client.result())["text_asr"] == SAID
        finished = [event for event in daemon.events if event["event"] == "job_finished"]
        assert [(event["node"], event["attempts"]) for event in finished] == [(able, 1)] * 3
        for node in (lacking, having):
            node.signal(signal.SIGTERM)
            assert (await node.ended(), node.complaints) == (0, [])
        daemon.stop()
    finally:
        lacking.clear_away()
        having.clear_away()
        daemon.clear_away()
