"""`linguad node --hub`: the reference node with the model of a hub, as a process, at a played scheduler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pocketsphinx
import trio
from played_hub import played_hub
from trio_websocket import WebSocketConnection, WebSocketRequest, serve_websocket

from linguad import audio

ROOT = Path(__file__).parent.parent.parent
SPEECH = ROOT / "demo/audio/house.wav"
SAID = (ROOT / "demo/audio/house.txt").read_text().strip()
MODEL = "pocketsphinx-en-us"


def model_files() -> dict[str, bytes]:
    """The model that the package brings along, as a hub has it."""
    root = Path(pocketsphinx.get_model_path("en-us"))
    return {
        str(file.relative_to(root)): file.read_bytes()
        for file in sorted(root.rglob("*"))
        if file.is_file() and not file.name.endswith("-phone.lm.bin")
    }


@asynccontextmanager
async def scheduler() -> AsyncIterator[tuple[str, trio.MemoryReceiveChannel[WebSocketConnection]]]:
    taken, connections = trio.open_memory_channel[WebSocketConnection](8)

    async def take(request: WebSocketRequest) -> None:
        taken.send_nowait(await request.accept())
        await trio.sleep_forever()

    with trio.fail_after(240):
        async with trio.open_nursery() as nursery:
            listening = partial(serve_websocket, take, "127.0.0.1", 0, None, max_message_size=2**26)
            server = await nursery.start(listening)
            yield f"ws://127.0.0.1:{server.port}/ws/node", connections
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def silent_hub() -> AsyncIterator[str]:
    """A hub that takes connections and never answers."""

    async def listen(_: trio.SocketStream) -> None:
        await trio.sleep_forever()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, listen, listeners))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def node(server: str, *arguments: str) -> AsyncIterator[trio.Process]:
    command = [sys.executable, "-m", "linguad", "node", "--server", server, *arguments]
    process = await trio.lowlevel.open_process(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, env=dict(os.environ)
    )
    try:
        yield process
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            await process.wait()


async def hear(ws: WebSocketConnection, *kinds: str) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = json.loads(await ws.get_message())
        if message["type"] in kinds:
            return message


async def accept(ws: WebSocketConnection) -> dict[str, Any]:
    registration = await hear(ws, "node_register")
    ack = {"type": "node_register_ack", "node_id": "n", "message": "registered", "status": "registering"}
    await ws.send_message(json.dumps(ack))
    return registration


async def ask(ws: WebSocketConnection, index: int) -> dict[str, Any]:
    """The node's answer to a spoken sentence."""
    pcm = audio.read_audio_file(SPEECH)[0]
    job = {
        "type": "job_assign",
        "job_id": f"job-{index}",
        "attempt_id": 1,
        "session_id": "s-1",
        "utterance_index": index,
        "src_lang": "en",
        "tgt_lang": "es",
        "pipeline": {"use_asr": True, "use_nmt": True, "use_tts": False},
        "audio": b64encode(audio.encode_plan_a(pcm, audio.WIRE_RATE)).decode(),
        "audio_format": "opus",
        "sample_rate": audio.WIRE_RATE,
        "trace_id": "t-1",
        "is_manual_cut": True,
    }
    await ws.send_message(json.dumps(job))
    return await hear(ws, "job_result")


async def test_a_node_registers_only_what_it_has_and_more_when_it_has_more(tmp_path: Path) -> None:
    async with played_hub({MODEL: {"1.0.0": model_files()}}) as hub, scheduler() as (url, connections):
        hub.held = trio.Event()
        arguments = ("--hub", hub.url, "--data-dir", str(tmp_path))
        async with node(url, *arguments):
            ws = await connections.receive()
            registration = await accept(ws)
            assert {service["type"] for service in registration["installed_services"]} == {"nmt", "tts"}
            assert registration["language_capabilities"]["asr_languages"] == []
            assert registration["installed_models"] == []
            while not hub.files_asked():  # noqa: ASYNC110 - a process asks
                await trio.sleep(0.01)
            error = (await ask(ws, 0))["error"]
            assert error["code"] == "MODEL_NOT_AVAILABLE"
            assert error["message"] == f"Model {MODEL}@1.0.0 unavailable: downloading"
            assert error["details"]["model_id"] == MODEL
            assert error["details"]["reason"] == "downloading"

            hub.held.set()
            while True:
                heartbeat = await hear(ws, "node_heartbeat")
                if "asr" in {service["type"] for service in heartbeat["installed_services"]}:
                    break
            (model,) = heartbeat["installed_models"]
            assert (model["model_id"], model["version"], model["kind"], model["enabled"]) == (
                *(MODEL, "1.0.0", "asr"),
                True,
            )
            (service,) = [one for one in heartbeat["installed_services"] if one["type"] == "asr"]
            assert service["model_id"] == MODEL
            assert heartbeat["language_capabilities"]["asr_languages"] == ["en"]
            assert (await ask(ws, 1))["text_asr"] == SAID

        # The next one has all at once, although the hub takes its requests and answers none.
        async with (
            silent_hub() as silent,
            node(url, "--hub", silent, "--data-dir", str(tmp_path)),
        ):
            ws = await connections.receive()
            registration = await accept(ws)
            assert {service["type"] for service in registration["installed_services"]} == {
                "asr",
                "nmt",
                "tts",
            }
            (model,) = registration["installed_models"]
            assert model["enabled"] is True
            assert (await hear(ws, "node_heartbeat"))["installed_models"] == [model]
            assert (await ask(ws, 0))["text_asr"] == SAID


async def test_a_damaged_model_is_mended_and_a_bad_version_is_left(tmp_path: Path) -> None:
    files = model_files()
    broken = files | {"en-us/mdef": b"not what it should be"}
    async with played_hub({MODEL: {"1.0.0": files}}) as hub, scheduler() as (url, connections):
        arguments = ("--hub", hub.url, "--data-dir", str(tmp_path))

        async def until_it_hears() -> None:
            async with node(url, *arguments):
                ws = await connections.receive()
                registration = await accept(ws)
                services = registration["installed_services"]
                while "asr" not in {service["type"] for service in services}:
                    services = (await hear(ws, "node_heartbeat"))["installed_services"]

        await until_it_hears()
        tree = tmp_path / "models" / MODEL
        (tree / "1.0.0/en-us/mdef").write_bytes(b"damage")
        await until_it_hears()
        assert (tree / "1.0.0/en-us/mdef").read_bytes() == files["en-us/mdef"]

        hub.models[MODEL]["2.0.0"] = broken
        pull = [sys.executable, "-m", "linguad", "models", "pull", MODEL, *arguments]
        await trio.run_process(pull, cwd=ROOT, capture_stdout=True)
        active = json.loads((tmp_path / "models/active.json").read_text())[MODEL]
        assert active["version"] == "2.0.0"
        await until_it_hears()
        active = json.loads((tmp_path / "models/active.json").read_text())[MODEL]
        assert (active["version"], active["reason"]) == ("1.0.0", "no engine works with 2.0.0")
