"""Builders for the tests of the core: counted names, audio that tells its order, nodes, requests."""

from __future__ import annotations

import base64
from typing import Any

from linguad.core.job import JobRequest
from linguad.core.utterance import Audio, CutReason
from linguad.wire import opus
from linguad.wire.common import PipelineConfig
from linguad.wire.node import (
    InstalledService,
    NodeHeartbeat,
    NodeLanguageCapabilities,
    NodeRegister,
)

SPEECH = PipelineConfig()
"""Speech in, translated speech out."""

SUBTITLES = PipelineConfig(use_tts=False)
"""Speech in, translated text out."""


class CountingIds:
    """Names that tell their order: `s-1`, `job-1`, `node-00000001`, `id-1`."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def _next(self, kind: str) -> int:
        self._last[kind] = self._last.get(kind, 0) + 1
        return self._last[kind]

    def session(self) -> str:
        return f"s-{self._next('session')}"

    def job(self) -> str:
        return f"job-{self._next('job')}"

    def node(self) -> str:
        return f"node-{self._next('node'):08X}"

    def uuid(self) -> str:
        return f"id-{self._next('uuid')}"


def records(count: int, first: int = 0, size: int = 6) -> list[bytes]:
    """Plan A records of `size` bytes each, numbered inside so that none can be lost or doubled unseen."""
    return [opus.join([number.to_bytes(size - 2, "big")]) for number in range(first + 1, first + count + 1)]


def plan_a(count: int, first: int = 0, size: int = 6) -> bytes:
    """So many records in one payload; 50 are one second."""
    return b"".join(records(count, first, size))


def sound(seconds: float = 1.0, data: bytes = b"sound") -> Audio:
    """Audio of an utterance; what it holds does not matter to dispatch."""
    return Audio(base64.b64encode(data).decode(), "opus", 16000, round(seconds * 1000))


def request(
    index: int = 0,
    session: str = "s-1",
    *,
    src: str = "en",
    tgt: str = "es",
    reason: CutReason = CutReason.MANUAL,
    now: float = 0.0,
    **members: Any,
) -> JobRequest:
    """An utterance of a session; each is a turn of its own unless `turn_id` says otherwise."""
    defaults: dict[str, Any] = {
        "lane": session,
        "pipeline": SPEECH,
        "trace_id": "t-1",
        "turn_id": f"turn-{session}-{index}",
    }
    return JobRequest(
        session_id=session,
        utterance_index=index,
        reason=reason,
        src_lang=src,
        tgt_lang=tgt,
        last_audio_at=now,
        cut_at=now,
        **(defaults | members),
    )


def services(*types: str, status: str = "running") -> list[InstalledService]:
    """Installed services of these types, all with the same status."""
    return [InstalledService(service_id=f"{kind}-service", type=kind, status=status) for kind in types]


def languages(*codes: str, **members: Any) -> NodeLanguageCapabilities:
    """A node that hears and speaks these languages and translates each into each."""
    defaults = {"asr_languages": list(codes), "tts_languages": list(codes), "semantic_core_ready": True}
    return NodeLanguageCapabilities(**(defaults | members))


def register(node_id: str | None = None, *codes: str, **members: Any) -> NodeRegister:
    """The registration of a node for speech between these languages, `en` and `es` if none are given."""
    defaults: dict[str, Any] = {
        "node_id": node_id,
        "platform": "linux",
        "installed_services": services("asr", "nmt", "tts"),
        "language_capabilities": languages(*(codes or ("en", "es"))),
    }
    return NodeRegister(**(defaults | members))


def heartbeat(node_id: str, **members: Any) -> NodeHeartbeat:
    """A heartbeat that says nothing new."""
    return NodeHeartbeat(node_id=node_id, **members)
