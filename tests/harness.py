"""Scripted clients and nodes that speak the wire protocols in plain JSON; a daemon without sockets for them.

What is sent and heard are dicts as they stand on the wire, so that a test shows what a real peer would see.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import msgspec
import trio
from trio.testing import memory_stream_one_way_pair, memory_stream_pair, wait_all_tasks_blocked
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from linguad.config import Config
from linguad.daemon import Daemon
from linguad.net.links import Links
from linguad.net.peer import Peer as Address
from linguad.wire import opus

Json = dict[str, Any]

PATIENCE_S = 1000.0
"""Longest wait for a frame on the fake clock; it ends a test that would wait for ever, s."""

INSTANT_S = 0.001
"""On the fake clock: shorter than anything the daemon waits for, s."""

HEARTBEAT_S = 15.0
"""Between two heartbeats, as real nodes do, s."""

CHUNK_PACKETS = 13
"""Opus packets in a chunk of a web client: 256 ms of speech, padded to 260 ms."""

QUEUE = 10_000
"""Frames a peer takes in although the test does not ask for them; else it would not answer pings."""

LANGUAGES = {
    "asr_languages": ["en", "es", "zh"],
    "tts_languages": ["en", "es", "zh"],
    "semantic_languages": ["en", "es", "zh"],
    "semantic_core_ready": True,
}

TWO_WAY: Json = {
    "src_lang": "auto",
    "tgt_lang": "en",
    "mode": "two_way_auto",
    "lang_a": "zh",
    "lang_b": "en",
    "auto_langs": ["zh", "en"],
}
"""Members of `session_init` by which web clients ask for a conversation in two languages."""

SERVICES = [
    {"service_id": f"test-{kind}", "type": kind, "device": "gpu", "status": "running", "version": "2.0.0"}
    for kind in ("asr", "nmt", "tts")
]


def plan_a(packets: int = CHUNK_PACKETS, mark: int = 1, size: int = 60) -> bytes:
    """Records that no decoder would take, which linguad never tries; `mark` fills their bytes."""
    return opus.join([bytes([mark]) * size] * packets)


def base64(data: bytes) -> str:
    """As text."""
    return b64encode(data).decode()


def registration(node_id: str | None = None, **members: Any) -> Json:
    """The `node_register` of a real node of the latest generation."""
    return {
        "type": "node_register",
        "node_id": node_id,
        "version": "2.0.0",
        "capability_schema_version": "2.0",
        "platform": "linux",
        "hardware": {"cpu_cores": 16, "memory_gb": 64, "gpus": [{"name": "GPU-X 24G", "memory_gb": 24}]},
        "installed_models": [],
        "installed_services": SERVICES,
        "capability_by_type": [],
        "features_supported": {"emotion_detection": False},
        "accept_public_jobs": True,
        "language_capabilities": LANGUAGES,
        **members,
    }


class Peer:
    """One end of a WebSocket in the hands of a test."""

    def __init__(
        self,
        ws: WebSocketConnection,
        stream: trio.abc.AsyncResource | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._ws = ws
        self._stream = stream
        self._silenced: trio.abc.AsyncResource | None = None
        self.patience_s = patience_s

    async def say(self, message: Json | str | bytes) -> None:
        """Send a message, or any text or bytes as they are."""
        await self._ws.send_message(json.dumps(message) if isinstance(message, dict) else message)

    async def hear(self) -> Json:
        """The next frame, which must be a JSON object in a text frame without nulls at its top."""
        with trio.fail_after(self.patience_s):
            frame = await self._ws.get_message()
        assert isinstance(frame, str), "servers send text frames only"
        message: Json = json.loads(frame)
        assert None not in message.values(), "what is absent is not written"
        return message

    async def until(self, kind: str, **members: Any) -> Json:
        """The next message of this type with these members; what comes before is skipped."""
        while True:
            message = await self.hear()
            if message["type"] == kind and members.items() <= message.items():
                return message

    async def heard(self, *kinds: str) -> list[Json]:
        """All that was sent so far, of these types if any are given."""
        await wait_all_tasks_blocked()
        messages = []
        with trio.move_on_after(INSTANT_S):
            while True:
                messages.append(await self.hear())
        return [message for message in messages if not kinds or message["type"] in kinds]

    async def closed(self) -> tuple[int, str | None]:
        """Code and text of the close frame, after whatever came before it."""
        with trio.fail_after(self.patience_s), suppress(ConnectionClosed):
            while True:
                await self._ws.get_message()
        reason = self._ws.closed
        assert reason is not None
        return reason.code, reason.reason

    @property
    def connected(self) -> bool:
        """Whether neither side has begun to close."""
        return self._ws.closed is None

    async def leave(self, code: int = 1000) -> None:
        """Close with a handshake."""
        await self._ws.aclose(code)

    async def drop(self) -> None:
        """Be gone without a word, as a process that was killed."""
        assert self._stream is not None
        await self._stream.aclose()
        if self._silenced is not None:
            await self._silenced.aclose()

    def hang(self) -> None:
        """Stay connected, but answer nothing any more, not even a ping: a process that stands still."""
        assert isinstance(self._stream, trio.StapledStream)
        self._silenced, self._stream.send_stream = self._stream.send_stream, memory_stream_one_way_pair()[0]


class Client(Peer):
    """A web client, or whatever `init` makes of it."""

    session_id = ""
    seq = 0
    minds_languages = False
    """Whether it takes notice of languages that nobody serves, or serves again."""

    async def hear(self) -> Json:
        """The next message that it takes notice of."""
        while True:
            message = await super().hear()
            if self.minds_languages or not is_about_languages(message):
                return message

    async def open(self, **members: Any) -> Json:
        """Send `session_init`; the acknowledgement, which must be the very next frame."""
        await self.say(session_init(**members))
        ack = await self.hear()
        assert ack["type"] == "session_init_ack"
        self.session_id = ack["session_id"]
        return ack

    async def chunk(self, audio: bytes = b"", *, final: bool = False, **members: Any) -> None:
        """Send audio of the running utterance."""
        message = {
            "type": "audio_chunk",
            "session_id": self.session_id,
            "seq": self.seq,
            "is_final": final,
            "payload": base64(audio),
        }
        self.seq += 1
        await self.say(message | members)

    async def speak(self, chunks: int = 3, mark: int = 1) -> None:
        """Some chunks at once and their final."""
        for _ in range(chunks):
            await self.chunk(plan_a(mark=mark))
        await self.chunk(final=True)

    async def utterance(self, index: int, sound: bytes | None = None, **members: Any) -> None:
        """Send a whole utterance."""
        message = {
            "type": "utterance",
            "session_id": self.session_id,
            "utterance_index": index,
            "manual_cut": True,
            "src_lang": "en",
            "tgt_lang": "es",
            "dialect": None,
            "audio": base64(plan_a() if sound is None else sound),
            "audio_format": "opus",
            "sample_rate": 16000,
        }
        await self.say(message | members)

    async def heartbeat(self) -> Json:
        """Send one and wait for the answer, which follows everything that was sent before."""
        await self.say(
            {"type": "client_heartbeat", "session_id": self.session_id, "timestamp": 1769900000000}
        )
        return await self.until("server_heartbeat", session_id=self.session_id)

    async def result(self, **members: Any) -> Json:
        """The next `translation_result`."""
        return await self.until("translation_result", **members)


class Node(Peer):
    """A compute node that does what it is told."""

    id = ""

    async def register(self, node_id: str | None = None, **members: Any) -> Json:
        """Register and take over the id of the acknowledgement."""
        await self.say(registration(node_id, **members))
        ack = await self.until("node_register_ack")
        self.id = ack["node_id"]
        return ack

    async def heartbeat(self, **members: Any) -> None:
        """Send one."""
        message = {
            "type": "node_heartbeat",
            "node_id": self.id,
            "timestamp": 1769731200000,
            "resource_usage": {
                "cpu_percent": 21.5,
                "gpu_percent": 43.0,
                "mem_percent": 55.1,
                "running_jobs": 0,
            },
            "installed_services": SERVICES,
            "capability_by_type": [],
            "language_capabilities": LANGUAGES,
        }
        await self.say(message | members)

    async def beat(self, members: Json | None = None) -> None:
        """Heartbeats with these members, the first at once, until the socket is closed."""
        while True:
            try:
                await self.heartbeat(**(members or {}))
            except ConnectionClosed:
                return
            await trio.sleep(HEARTBEAT_S)

    async def job(self) -> Json:
        """The next `job_assign`."""
        return await self.until("job_assign")

    async def answer(self, job: Json, **members: Any) -> None:
        """Send the result of a job: complete, unless `members` say otherwise.

        Its speech is PCM16, for Opus may be converted, in a thread, and threads do not go with a fake clock.
        """
        message = {
            "type": "job_result",
            "job_id": job["job_id"],
            "attempt_id": job["attempt_id"],
            "node_id": self.id,
            "session_id": job["session_id"],
            "utterance_index": job["utterance_index"],
            "success": True,
            "text_asr": f"heard {job['utterance_index']}",
            "text_translated": f"oído {job['utterance_index']}",
            "tts_audio": base64(plan_a(5)),
            "tts_format": "pcm16",
            "extra": {"language_probability": 0.97, "audioBuffered": False},
            "processing_time_ms": 120,
            "trace_id": job["trace_id"],
        }
        await self.say(message | members)

    async def fail(self, job: Json, code: str = "PROCESSING_ERROR", message: str = "it broke") -> None:
        """Send a result that says the job failed."""
        error = {"code": code, "message": message}
        nothing = dict.fromkeys(("text_asr", "text_translated", "tts_audio", "tts_format", "extra"))
        await self.answer(job, success=False, error=error, **nothing)

    async def work(self, *, seconds: float = 0.0) -> None:
        """Answer every job after so long, until the socket is closed."""
        while True:
            try:
                job = await self._ws.get_message()
                message = json.loads(job)
                if message["type"] == "job_assign":
                    await trio.sleep(seconds)
                    await self.answer(message)
            except ConnectionClosed:
                return


def is_about_languages(message: Json) -> bool:
    """Whether it tells that a pair of languages is served or not, which it does unasked."""
    about = message.get("event") == "LANGUAGES_AVAILABLE" or "alternatives" in message.get("details", {})
    return message["type"] == "ui_event" and about


def session_init(**members: Any) -> Json:
    """What a web client sends first, for English to Spanish."""
    return {
        "type": "session_init",
        "client_version": "web-client-v1.0",
        "platform": "web",
        "src_lang": "en",
        "tgt_lang": "es",
        "dialect": None,
        "features": {},
        "pairing_code": None,
        "mode": "one_way",
        "trace_id": "5b0cf3a2-6a4f-4a44-9d63-0a2f6f6d1f01",
        "tenant_id": None,
        **members,
    }


class World:
    """A daemon whose clients and nodes are at the other end of memory streams."""

    def __init__(self, daemon: Daemon, nursery: trio.Nursery) -> None:
        self.daemon = daemon
        self.nursery = nursery

    async def stranger(self) -> Client:
        """A client that has said nothing yet."""
        return Client(*await self._dial(self.daemon.session_links))

    async def client(self, **members: Any) -> Client:
        """A client with an open session."""
        client = await self.stranger()
        await client.open(**members)
        return client

    async def unregistered(self) -> Node:
        """A node that has said nothing yet."""
        return Node(*await self._dial(self.daemon.node_links))

    async def node(self, node_id: str | None = None, **members: Any) -> Node:
        """A registered node with heartbeats, ready for work."""
        node = await self.unregistered()
        await node.register(node_id, **members)
        self.nursery.start_soon(node.beat)
        await wait_all_tasks_blocked()
        return node

    async def working_node(self, *, seconds: float = 0.0) -> Node:
        """A node that answers every job after so long."""
        node = await self.node()

        async def work() -> None:
            await node.work(seconds=seconds)

        self.nursery.start_soon(work)
        return node

    async def _dial(self, links: Links) -> tuple[WebSocketConnection, trio.abc.AsyncResource]:
        # Links and the library say sockets where any stream will do.
        ours, theirs = (cast(trio.SocketStream, stream) for stream in memory_stream_pair())
        self.nursery.start_soon(links.serve, ours, Address("192.0.2.1", 4000))
        ws = await wrap_client_stream(
            self.nursery, theirs, "localhost:5010", "/ws", message_queue_size=QUEUE, max_message_size=2**26
        )
        return ws, theirs


@asynccontextmanager
async def daemon_in_memory(**tables: dict[str, Any]) -> AsyncIterator[World]:
    """A daemon with these settings, as `sessions={"pause_ms": 500}`; for tests under autojump_clock."""
    daemon = Daemon(msgspec.convert(tables, Config))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(daemon.engine_tasks.serve)
        nursery.start_soon(daemon.sessions.serve)
        yield World(daemon, nursery)
        nursery.cancel_scope.cancel()
