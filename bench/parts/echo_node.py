"""Nodes that answer at once with fixed text and the audio they were given.

`python -m bench.parts.echo_node COUNT --linguad URL --relay URL` opens that many node connections to each of
the URLs, prints a line when all are there, and works until it is ended. `text_asr` of an answer is when its
node had the whole question, ns on the monotonic clock, which all processes of a machine share. With
`--lose SHARE` linguad gets no answer to that share of its utterances, whichever node it asks.
"""

from __future__ import annotations

import argparse
import time
import zlib
from base64 import b64decode, b64encode
from collections import Counter, defaultdict
from functools import partial

import trio
from trio_websocket import WebSocketConnection

from linguad.net import dial
from linguad.wire import codec
from linguad.wire.common import ExtraResult
from linguad.wire.node import (
    CapabilityByType,
    GpuInfo,
    HardwareInfo,
    InstalledService,
    JobAssign,
    JobResult,
    NodeHeartbeat,
    NodeLanguageCapabilities,
    NodeRegister,
    NodeRegisterAck,
)
from linguad.wire.session import AudioChunk, TranslationResult, Utterance

SAID = "el tiempo es bueno y el sol brilla"
HEARTBEAT_S = 15
MAX_JOBS = 64
KINDS = ("asr", "nmt", "tts")
SERVICES = [InstalledService(service_id=f"echo-{kind}", type=kind, status="running") for kind in KINDS]
CAPABILITIES = [CapabilityByType(type=kind, ready=True, devices=["gpu"]) for kind in KINDS]
LANGUAGES = NodeLanguageCapabilities(
    asr_languages=["en", "es"],
    tts_languages=["en", "es"],
    semantic_languages=["en", "es"],
    semantic_core_ready=True,
)
REGISTER = NodeRegister(
    version="2.0.0",
    capability_schema_version="2.0",
    platform="linux",
    hardware=HardwareInfo(cpu_cores=8, memory_gb=16, gpus=[GpuInfo(name="echo", memory_gb=8)]),
    installed_models=[],
    installed_services=SERVICES,
    capability_by_type=CAPABILITIES,
    accept_public_jobs=True,
    language_capabilities=LANGUAGES,
    max_concurrent_jobs=MAX_JOBS,
)


async def at_linguad(
    url: str, lose: float, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """One node of a scheduler, by the node protocol."""
    async with dial.websocket(url) as ws, trio.open_nursery() as nursery:
        await ws.send_message(codec.encode(REGISTER))
        ack = codec.scheduler_messages.decode(await ws.get_message())
        assert isinstance(ack, NodeRegisterAck), ack
        nursery.start_soon(beat, ws, ack.node_id)
        task_status.started()
        while True:
            text = await ws.get_message()
            arrived = time.monotonic_ns()
            job = codec.scheduler_messages.decode(text)
            if isinstance(job, JobAssign) and not is_lost(job.session_id, job.utterance_index, lose):
                await ws.send_message(codec.encode(result_of(job, ack.node_id, arrived)))


def is_lost(session_id: str, index: int, share: float) -> bool:
    """Whether this utterance is of the share that is never answered; the same for everybody who asks."""
    return zlib.crc32(f"{session_id}:{index}".encode()) < share * 2**32


def result_of(job: JobAssign, node_id: str, arrived: int = 0) -> JobResult:
    """The fixed answer to a job."""
    return JobResult(
        job_id=job.job_id,
        node_id=node_id,
        success=True,
        attempt_id=job.attempt_id,
        session_id=job.session_id,
        utterance_index=job.utterance_index,
        text_asr=str(arrived),
        text_translated=SAID,
        tts_audio=job.audio,
        tts_format=job.audio_format,
        extra=ExtraResult(),
        processing_time_ms=0,
        trace_id=job.trace_id,
    )


async def beat(ws: WebSocketConnection, node_id: str) -> None:
    """Heartbeats, the first at once."""
    while True:
        message = NodeHeartbeat(
            node_id=node_id,
            timestamp=time.time_ns() // 1_000_000,
            installed_services=SERVICES,
            capability_by_type=CAPABILITIES,
            language_capabilities=LANGUAGES,
            max_concurrent_jobs=MAX_JOBS,
        )
        await ws.send_message(codec.encode(message))
        await trio.sleep(HEARTBEAT_S)


async def at_relay(url: str, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """The same work behind the bare relay, where the client's own messages arrive."""
    speech: defaultdict[str, list[bytes]] = defaultdict(list)
    finals: Counter[str] = Counter()
    async with dial.websocket(url) as ws:
        task_status.started()
        while True:
            text = await ws.get_message()
            arrived = time.monotonic_ns()
            asked = codec.client_messages.decode(text)
            match asked:
                case Utterance(audio=audio, utterance_index=index):
                    pass
                case AudioChunk(is_final=True):
                    index = finals[asked.session_id]
                    finals[asked.session_id] += 1
                    audio = b64encode(b"".join(speech.pop(asked.session_id))).decode()
                case AudioChunk():
                    speech[asked.session_id].append(b64decode(asked.payload or ""))
                    continue
                case _:
                    raise ValueError(f"nobody answers a {type(asked).__name__}")
            await ws.send_message(codec.encode(answer_to(asked.session_id, index, audio, arrived)))


def answer_to(session_id: str, index: int, audio: str, arrived: int) -> TranslationResult:
    """The fixed answer as a client wants it."""
    return TranslationResult(
        session_id=session_id,
        utterance_index=index,
        job_id="job-00000000-0000-0000-0000-000000000000",
        text_asr=str(arrived),
        text_translated=SAID,
        tts_audio=audio,
        tts_format="opus",
        trace_id="00000000-0000-0000-0000-000000000000",
        extra=ExtraResult(),
    )


async def main(count: int, linguad: str | None, relay: str | None, lose: float) -> None:
    """Connect everywhere, say so, and work."""
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            if linguad:
                await nursery.start(at_linguad, linguad, lose)
            if relay:
                await nursery.start(at_relay, relay)
        print("ready", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--linguad")
    parser.add_argument("--relay")
    parser.add_argument("--lose", type=float, default=0.0)
    trio.run(partial(main, **vars(parser.parse_args())))
