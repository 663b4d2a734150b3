"""Jobs and their attempts (node-protocol 6).

A job is one utterance into one target language; it keeps its audio until it ended. An attempt is one dispatch
of a job to one node. States of an attempt:

    DISPATCHED -> ACCEPTED -> RUNNING -> FINISHED

Acks are optional, so every state may go straight to FINISHED, and nothing leaves FINISHED. The slot an
attempt took is given back in the same step that finishes it, exactly once.
"""

from __future__ import annotations

from enum import Enum, IntEnum, StrEnum

from msgspec import Struct, field

from linguad.core.capability import Probe
from linguad.core.key import Features, Key
from linguad.core.lanes import Lane
from linguad.core.utterance import Audio, CutReason
from linguad.errors import ErrorCode
from linguad.wire.common import FeatureFlags, PipelineConfig
from linguad.wire.node import JobResult

DIRECT = "direct"
"""The built-in tenant of sessions that did not come through somebody we trust (resolution 41)."""

NO_TEXT_ASSIGNED, ASR_EMPTY = "NO_TEXT_ASSIGNED", "ASR_EMPTY"


class Context(Struct, frozen=True):
    """What was said before in the same group of utterances, for a better translation (4.7)."""

    group_id: str
    part_index: int
    """The place the utterance will have in the group."""
    text: str


class JobRequest(Struct, frozen=True, kw_only=True):
    """One utterance and the language it is wanted in; everything a node needs to be told but the sound."""

    session_id: str
    lane: str
    """Ordering context inside a node: the session id, with `#` and the language for fan-out (6.2)."""
    utterance_index: int
    reason: CutReason
    src_lang: str
    tgt_lang: str
    pipeline: PipelineConfig
    trace_id: str
    turn_id: str
    last_audio_at: float
    cut_at: float
    dialect: str | None = None
    features: FeatureFlags | None = None
    mode: str | None = None
    lang_a: str | None = None
    lang_b: str | None = None
    auto_langs: list[str] | None = None
    enable_streaming_asr: bool = True
    partial_update_interval_ms: int = 1000
    padding_ms: int | None = None
    tenant: str = DIRECT
    """Who is charged and whose turn it is; not the label the client gave itself (resolution 41)."""
    key_id: str = ""
    """The API key it was asked for with, "" if none."""
    last_client_ms: int | None = None
    node_id: str = ""
    """The only node it may go to: that of a paired session (resolution 22)."""
    answer_by: float | None = None
    """When whoever asked stops waiting, monotonic s; an attempt leaves time for another (resolution 24)."""
    room_id: str = ""
    """Room it was spoken in; the result is for those who are there when it comes (resolution 16)."""
    sound: int = 0
    """A hash of its audio, for what comes whole and may be sent again."""
    utterance_trace: str = ""
    """Names the utterance, whatever it is translated to, inside linguad."""
    context: Context | None = None
    """What was said before."""
    held_ms: int = 0
    """How much of its audio was held before, because it was too short to be an utterance."""
    for_speaker: bool = True
    """Whether the speaker is told what comes of it; in a room that is one of the languages only."""


class AttemptState(IntEnum):
    """Life of an attempt; the order is the order of time."""

    DISPATCHED = 0
    ACCEPTED = 1
    RUNNING = 2
    FINISHED = 3


class AttemptEnd(StrEnum):
    """How an attempt ended; also a metric label."""

    OK = "ok"
    EMPTY = "empty"
    MERGED = "merged"
    FAILED = "failed"
    TIMEOUT = "timeout"
    SILENT = "silent"
    """Too late, but the node answered others meanwhile: perhaps it had nothing to say (resolution 29)."""
    CANCELLED = "cancelled"
    NODE_LOST = "node_lost"
    SUPERSEDED = "superseded"
    REFUSED = "refused"
    """The instance that has the socket of the node did not give it to the node."""


class Chosen(StrEnum):
    """Why an attempt went to its node."""

    TURN = "turn"
    """The node has earlier slices of the same turn, or audio that belongs to it."""
    SESSION = "session"
    """It is the session's node, and none was clearly better."""
    BEST = "best"
    """It had the smallest expected finish of those that were compared."""
    PAIRED = "paired"
    """The session asked for it."""
    AGAIN = "again"
    """It failed this job before, and there was no other."""
    HEDGE = "hedge"
    """The first node takes suspiciously long."""


class Attempt(Struct, kw_only=True, eq=False):
    """One dispatch of a job; mutable: `state`, `end`, and whether it holds a slot of its node."""

    number: int
    node_id: str
    row: int
    wire_job_id: str
    wire_session_id: str
    sent_at: float
    deadline: float
    """When it is given up, monotonic s."""
    chosen: Chosen
    features: Features = Features.NONE
    """Those of the abilities the job asks for that the node claims."""
    owner: str = ""
    """The instance through which it goes, "" if the socket of the node is here."""
    heard: bool = False
    """Its text came; the translation comes with the end of the turn."""
    state: AttemptState = AttemptState.DISPATCHED
    end: AttemptEnd | None = None
    ended_at: float | None = None
    holds_slot: bool = True
    pool: int | None = None
    """The capability pool of its node, where pools say who may do the job."""
    passed: tuple[Probe, ...] = ()
    """The pools that would have been preferred, but had nobody."""

    @property
    def fallback(self) -> bool:
        """Whether another pool was preferred."""
        return bool(self.passed)

    @property
    def open(self) -> bool:
        """Whether a result of this attempt may still end its job in the ordinary way."""
        return self.state is not AttemptState.FINISHED


class JobStatus(Enum):
    """PENDING has no live attempt, ASSIGNED has one; the others are final."""

    PENDING = "pending"
    ASSIGNED = "assigned"
    COMPLETED = "completed"
    COMPLETED_NO_TEXT = "completed_no_text"
    FAILED = "failed"
    CANCELLED = "cancelled"

    def __init__(self, word: str) -> None:
        self.final = word not in ("pending", "assigned")
        """Whether the job is over."""


class MissingReason(StrEnum):
    """Why an utterance has no result (resolution 19)."""

    SILENCE = "silence_detected"
    MERGED = "merged"
    GAP_TIMEOUT = "gap_timeout"
    OVERFLOW = "pending_overflow_evict"
    JOB_FAILED = "job_failed"
    JOB_TIMEOUT = "job_timeout"
    NO_NODE = "no_available_node"
    OVERLOADED = "node_overloaded"
    NODE_LOST = "node_lost"
    CANCELLED = "cancelled"


class Outcome(Struct, frozen=True, kw_only=True):
    """What a job came to: a result to deliver, or the reason why there is none."""

    result: JobResult | None = None
    attempt: Attempt | None = None
    """The attempt that brought the result."""
    missing: MissingReason | None = None
    error: ErrorCode | None = None
    details: dict[str, object] | None = None
    received_at: float = 0.0


def without_text(reason: MissingReason, now: float) -> Outcome:
    """An outcome for which nobody is to blame."""
    return Outcome(missing=reason, received_at=now)


def node_gone(now: float) -> Outcome:
    """The outcome of a job whose node went away, unless another attempt finds a better one."""
    return Outcome(missing=MissingReason.NODE_LOST, error=ErrorCode.NODE_UNAVAILABLE, received_at=now)


class Job(Struct, kw_only=True, eq=False):
    """A job on its way; mutable: status, attempts, deadline, outcome."""

    id: str
    request: JobRequest
    key: Key
    lane: Lane
    audio: Audio | None
    """Kept for another attempt; let go when the job is over."""
    seconds: float
    """Length of its audio."""
    created_at: float
    wanted: Features = Features.NONE
    """Abilities it asks for."""
    status: JobStatus = JobStatus.PENDING
    attempts: list[Attempt] = field(default_factory=list)
    next_number: int = 1
    outcome: Outcome | None = None
    finished_at: float = 0.0
    delivered_at: float | None = None
    """When its text left, monotonic s."""
    late: bool = False
    """Its text left after the client had been told that there is none."""
    node_s: float | None = None
    """How long the node worked for its text."""
    audio_bytes: int = 0
    """Size of its audio."""
    hedge_at: float | None = None
    """When a second attempt beside the first is due."""
    in_vain: bool = False
    """It waits, and it was told that nobody was free for it."""
    renamed: bool = False
    """A node refused its names once, so it was sent under others (node-protocol 6.6)."""
    excluded_rows: list[int] = field(default_factory=list)
    """Nodes that failed this job."""

    def exclude(self, row: int) -> None:
        """Do not try this node again while there are others."""
        if row not in self.excluded_rows:
            self.excluded_rows.append(row)

    @property
    def open_attempts(self) -> list[Attempt]:
        """Attempts whose result ends the job in the ordinary way; two at most, if it was hedged."""
        return [attempt for attempt in self.attempts[-2:] if attempt.open]

    @property
    def tries(self) -> int:
        """How many attempts count: not those that no node ever saw."""
        return sum(attempt.end is not AttemptEnd.REFUSED for attempt in self.attempts)

    @property
    def heard(self) -> bool:
        """Whether it is a slice whose text came; the translation comes with the end of its turn."""
        return any(attempt.heard for attempt in self.open_attempts)

    @property
    def deferrable(self) -> bool:
        """Whether a node may keep this audio back and answer it with a later slice (node-protocol 6.5)."""
        return self.request.reason.speech_continues

    def precedes(self, closing: Job) -> bool:
        """Whether this is a slice of the turn that `closing` ends."""
        request, other = self.request, closing.request
        return (
            self.deferrable
            and request.turn_id == other.turn_id
            and request.tgt_lang == other.tgt_lang
            and request.utterance_index < other.utterance_index
        )

    def lies_with(self, other: Attempt) -> bool:
        """Whether a node works on this in the same wire session as on that attempt of another job.

        Only then it may have put both into one answer.
        """
        return any(
            (attempt.node_id, attempt.wire_session_id) == (other.node_id, other.wire_session_id)
            for attempt in self.open_attempts
        )


class ResultClass(Enum):
    """What a node's answer amounts to (node-protocol 2.8)."""

    FAILED = "failed"
    NO_TEXT = "no_text"
    EMPTY = "empty"
    PARTIAL_TURN = "partial_turn"
    COMPLETE = "complete"


def classify(result: JobResult, *, deferrable: bool) -> ResultClass:
    """Sort a result into its class; `deferrable` tells that the job was a max-duration slice."""
    if not result.success:
        return ResultClass.FAILED
    reason = result.extra.reason if result.extra else None
    if reason == NO_TEXT_ASSIGNED:
        return ResultClass.NO_TEXT
    heard = bool(result.text_asr and result.text_asr.strip())
    delivered = bool((result.text_translated and result.text_translated.strip()) or result.tts_audio)
    if reason == ASR_EMPTY or not (heard or delivered):
        return ResultClass.EMPTY
    if deferrable and not delivered:
        return ResultClass.PARTIAL_TURN
    return ResultClass.COMPLETE
