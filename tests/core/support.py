"""Builders for the tests of the core: counted names, audio that tells its order, nodes, requests."""

from __future__ import annotations

import base64
from typing import Any, TypeVar

from linguad.core.actions import Action, Assign, Deliver
from linguad.core.dispatch import Dispatch
from linguad.core.fleet import Fleet
from linguad.core.job import Attempt, Job, JobRequest
from linguad.core.rules import JobRules, NodeRules
from linguad.core.utterance import Audio, CutReason
from linguad.pools import NodeTable
from linguad.wire import opus
from linguad.wire.common import ExtraResult, PipelineConfig
from linguad.wire.node import (
    InstalledService,
    JobAssign,
    JobError,
    JobResult,
    NodeHeartbeat,
    NodeLanguageCapabilities,
    NodeRegister,
)

A = TypeVar("A", bound=Action)

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

    def trace(self) -> str:
        return f"{self._next('trace'):032x}"

    def resume_token(self) -> str:
        return f"token-{self._next('token')}"

    def pairing_code(self) -> str:
        return f"{self._next('pairing'):06d}"

    def room_code(self) -> str:
        return str(100_000 + self._next("room"))


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


def services(*types: str, status: str = "running", device: str = "gpu") -> list[InstalledService]:
    """Installed services of these types, all with the same status."""
    return [
        InstalledService(service_id=f"{kind}-service", type=kind, status=status, device=device)
        for kind in types
    ]


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


def answer(attempt: Attempt, kind: str = "complete", **members: Any) -> JobResult:
    """What the node of an attempt says: `complete`, `heard` (untranslated), `empty`, `no_text`, `failed`."""
    said: dict[str, dict[str, Any]] = {
        "complete": {"text_asr": "hello", "text_translated": "hola", "tts_audio": "AAA="},
        "heard": {"text_asr": "hello", "text_translated": "", "tts_audio": ""},
        "empty": {"extra": ExtraResult(reason="ASR_EMPTY")},
        "no_text": {"extra": ExtraResult(reason="NO_TEXT_ASSIGNED")},
        "failed": {"success": False, "error": JobError(code="PROCESSING_ERROR", message="GPU lease timeout")},
    }
    defaults = {"job_id": attempt.wire_job_id, "node_id": attempt.node_id, "success": True}
    return JobResult(**(defaults | said[kind] | members))


def fault(message: str, code: str = "PROCESSING_ERROR") -> JobError:
    """Why a job failed on its node."""
    return JobError(code=code, message=message)


def only(kind: type[A], actions: list[Action]) -> list[A]:
    """The actions of one kind."""
    return [action for action in actions if isinstance(action, kind)]


def sent(actions: list[Action]) -> list[JobAssign]:
    """What nodes are sent."""
    return [action.message for action in only(Assign, actions)]


def told(actions: list[Action]) -> list[str]:
    """What sessions learn, each as `index:text` or `index:reason`."""
    return [
        f"{action.job.request.utterance_index}:"
        + (
            action.outcome.result.text_translated or ""
            if action.outcome.result
            else str(action.outcome.missing)
        )
        for action in only(Deliver, actions)
    ]


class Desk:
    """A dispatcher with a clock of its own; every call returns what it made the dispatcher want."""

    def __init__(
        self, node_rules: NodeRules | None = None, table: NodeTable | None = None, **rules: Any
    ) -> None:
        self.fleet = Fleet(node_rules or NodeRules(), table or NodeTable(), CountingIds())
        self.dispatch = Dispatch(self.fleet, JobRules(**rules), CountingIds())
        self.now = 100.0
        self.connections: dict[str, int] = {}
        self._generation = 0

    def node(self, node_id: str, *codes: str, cap: int = 4, **members: Any) -> list[Action]:
        """A node registers on a fresh connection and shows its health."""
        self._generation += 1
        self.connections[node_id] = self._generation
        message = register(node_id, *codes, max_concurrent_jobs=cap, **members)
        _, actions = self.dispatch.register(message, self._generation, self.now)
        return actions + self.beat(node_id)

    def beat(self, node_id: str, **members: Any) -> list[Action]:
        """A node reports."""
        return self.dispatch.heartbeat(heartbeat(node_id, **members), self.now)

    def lose(self, node_id: str) -> list[Action]:
        """The socket of a node is gone."""
        return self.dispatch.connection_lost(node_id, self.connections.pop(node_id), self.now)

    def submit(self, index: int = 0, session: str = "s-1", *, seconds: float = 1.0, **members: Any) -> Job:
        """A job whose actions do not matter."""
        return self.submitted(index, session, seconds=seconds, **members)[0]

    def submitted(
        self,
        index: int = 0,
        session: str = "s-1",
        *,
        seconds: float = 1.0,
        refuse: bool = False,
        **members: Any,
    ) -> tuple[Job, list[Action]]:
        """A job and what it made the dispatcher want."""
        made = request(index, session, now=self.now, **members)
        return self.dispatch.submit(made, sound(seconds), self.now, refuse=refuse)

    def answer(self, attempt: Attempt, kind: str = "complete", by: str = "", **members: Any) -> list[Action]:
        """The node of an attempt, or another one, answers."""
        return self.dispatch.result(answer(attempt, kind, **members), by or attempt.node_id, self.now)

    def wait(self, seconds: float) -> list[Action]:
        """Time passes; the dispatcher is woken whenever it asked for."""
        until, actions = self.now + seconds, []
        while (due := self.dispatch.due()) is not None and due <= until:
            self.now = due
            actions += self.dispatch.tick(due)
        self.now = until
        return actions + self.dispatch.tick(until)

    def used(self, node_id: str) -> int:
        """Slots of a node that are out."""
        row = self.fleet.row_of(node_id)
        assert row is not None
        return self.fleet.table.used(row)
