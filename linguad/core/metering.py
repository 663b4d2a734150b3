"""What every attempt used, what its tenant is charged and its node credited (resolution 42, decision 8).

Rules:
- Every attempt that ended is one row, and no row changes later. An answer that is taken although its attempt
  had ended before, because it came late, is a row of its own, `late`.
- A tenant is charged for speech whose translation was delivered to its session or room, each utterance once,
  into however many languages it went. What a session is told to be `merged` is charged with the answer it is
  in, which is one of the same wire session: a node that gets the rest of a turn anew does not have what
  another had. Silence, failures and speech that nothing came of cost nothing.
- A node is credited for the audio of each attempt it finished, whoever else finished it too.
- `charged_ms` says what the speech costs; whether somebody pays is a matter of the ledger.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct, field

from linguad.core.clock import Clock
from linguad.core.job import Attempt, AttemptEnd, Job, MissingReason, Outcome
from linguad.core.sound import BYTES_PER_MS, OPUS, PCM16
from linguad.octets import from_base64
from linguad.wire import opus
from linguad.wire.common import ServiceTimings
from linguad.wire.node import JobResult

LATE = "late"
"""Outcome of a row for an answer that was taken after its attempt had ended."""

MAX_REMEMBERED = 512
"""Utterances of a session that are known to be charged, and turns that are open; nothing comes so late."""

FINISHED = frozenset({AttemptEnd.OK, AttemptEnd.EMPTY, AttemptEnd.MERGED})
"""Ends for which a node is credited."""

WORDLESS = frozenset({AttemptEnd.EMPTY, AttemptEnd.MERGED})
"""Ends of attempts that were finished without a text of their own."""


class Usage(Struct, frozen=True, kw_only=True):
    """One row of usage; milliseconds, characters and counts."""

    id: str
    """The id by which the node knew the attempt, with `~late` for a late answer."""
    tenant: str
    key: str
    """Id of the key the session was opened with, "" if there was none."""
    session: str
    job: str
    attempt: int
    node: str
    owner: str
    """Whose account the credit goes to: the node itself where no owner is known."""
    utterance: int
    """Its index in the session."""
    outcome: str
    audio_ms: int
    """Speech the attempt was about."""
    finished_at: float
    """Unix s."""
    utterances: int = 0
    """Utterances that are charged with this row: 0, 1, or more where a node joined some."""
    charged_ms: int = 0
    credited_ms: int = 0
    asr_ms: int = 0
    nmt_ms: int = 0
    tts_ms: int = 0
    total_ms: int = 0
    """Time the node says it worked."""
    chars_asr: int = 0
    chars_translated: int = 0
    audio_ms_out: int = 0
    """Speech that was made."""


_UNTIMED = ServiceTimings()


class Part(Struct, frozen=True):
    """An utterance that is charged."""

    index: int
    name: str
    audio_ms: int
    places: frozenset[tuple[str, str]]
    """Nodes and wire sessions in which it was finished; only there it may have gone into another answer."""

    def is_in(self, answer: Attempt) -> bool:
        """Whether an answer of this attempt may have it."""
        return (answer.node_id, answer.wire_session_id) in self.places


class _Turn(Struct):
    """What became of a turn in one language so far."""

    merged: list[Part] = field(default_factory=list)
    """Slices that are in an answer still to come."""
    delivered: bool = False


class _Session(Struct):
    charged: dict[str, None] = field(default_factory=dict)
    """Names of the last utterances that were charged."""
    turns: dict[tuple[str, str], _Turn] = field(default_factory=dict)
    """By lane and turn."""
    carried: dict[str, list[Part]] = field(default_factory=dict)
    """By lane: utterances a node joined to what follows, in whatever turn that is."""


class Metering:
    """Mutable state: what was charged in each session, and what waits for the answer it is merged into."""

    def __init__(
        self,
        clock: Clock,
        *,
        credit_superseded: bool = False,
        owner_of: Callable[[str], str] = lambda node_id: node_id,
    ) -> None:
        """With `credit_superseded` a node is also credited if another one was quicker."""
        self._clock = clock
        self._credited = FINISHED | {AttemptEnd.SUPERSEDED} if credit_superseded else FINISHED
        self._owner_of = owner_of
        self._sessions: dict[str, _Session] = {}

    def __len__(self) -> int:
        """Sessions about which something is known."""
        return len(self._sessions)

    def ended(self, job: Job, attempt: Attempt) -> Usage | None:
        """An attempt ended; None if its row comes with what its job came to, in the same step."""
        if attempt.end in FINISHED:
            return None
        end = attempt.end or AttemptEnd.FAILED
        return self._row(job, attempt, attempt.ended_at or 0.0, outcome=end, credited=end in self._credited)

    def delivered(self, job: Job, outcome: Outcome) -> list[Usage]:
        """A job ended and its session was told, or it got its text after all."""
        session = self._session(job.request.session_id)
        if outcome.result is not None and outcome.attempt is not None:
            answer, carried = outcome.attempt, session.carried.pop(job.request.lane, ())
            joined = [part for part in (*carried, *self._waiting(session, job)) if part.is_in(answer)]
            parts = [*joined, _part(job)]
            return [self._answer(job, answer, outcome.result, outcome.received_at, session, parts)]
        parts = []
        if outcome.missing is MissingReason.MERGED:
            parts = self._merged(session, job)
        elif not job.deferrable:
            self._before(session, job)
        return [
            self._wordless(job, attempt, session, parts)
            for attempt in job.attempts
            if attempt.end in WORDLESS
        ]

    def session_ended(self, session_id: str) -> None:
        """Nothing more is delivered to a session."""
        self._sessions.pop(session_id, None)

    def _session(self, session_id: str) -> _Session:
        session = self._sessions.get(session_id)
        if session is None:
            session = self._sessions[session_id] = _Session()
        return session

    def _waiting(self, session: _Session, job: Job) -> list[Part]:
        """What of its turn is in the answer of a job; after a slice the turn goes on."""
        if job.deferrable:
            _turn(session, job).delivered = True
        return self._before(session, job)

    def _before(self, session: _Session, job: Job) -> list[Part]:
        """Take out what was merged of a turn before one of its jobs.

        Not what comes after it: a slice that goes on alone ends nothing but itself.
        """
        name, index = (job.request.lane, job.request.turn_id), job.request.utterance_index
        turn = session.turns.get(name)
        if turn is None:
            return []
        before = [part for part in turn.merged if part.index < index]
        turn.merged = [part for part in turn.merged if part.index >= index]
        if not (job.deferrable or turn.merged):
            del session.turns[name]
        return before

    def _merged(self, session: _Session, job: Job) -> list[Part]:
        """A job is in another answer; what of its turn is to be charged now, because that was delivered."""
        part, turn = _part(job), _turn(session, job)
        if job.deferrable:
            if turn.delivered:
                return [part]
            turn.merged.append(part)
            return []
        parts, lane = [*self._before(session, job), part], job.request.lane
        if turn.delivered:
            return parts
        session.carried[lane] = [*session.carried.get(lane, ()), *parts][-MAX_REMEMBERED:]
        return []

    def _answer(
        self, job: Job, attempt: Attempt, result: JobResult, at: float, session: _Session, parts: list[Part]
    ) -> Usage:
        """The row of an answer that is delivered."""
        late = attempt.end is not AttemptEnd.OK
        timings = (result.extra.service_timings if result.extra else None) or _UNTIMED
        total_ms = timings.total_ms if result.processing_time_ms is None else round(result.processing_time_ms)
        charged_ms, utterances = _charge(session, parts)
        return self._row(
            job,
            attempt,
            at,
            outcome=LATE if late else AttemptEnd.OK,
            credited=not (late and attempt.end in self._credited),
            charged_ms=charged_ms,
            utterances=utterances,
            asr_ms=timings.asr_ms or 0,
            nmt_ms=timings.nmt_ms or 0,
            tts_ms=timings.tts_ms or 0,
            total_ms=total_ms or 0,
            chars_asr=len(result.text_asr or ""),
            chars_translated=len(result.text_translated or ""),
            audio_ms_out=_speech_ms(result),
        )

    def _wordless(self, job: Job, attempt: Attempt, session: _Session, parts: list[Part]) -> Usage:
        """The row of an attempt that was finished without a text of its own."""
        end, at = attempt.end or AttemptEnd.MERGED, attempt.ended_at or 0.0
        charged_ms, utterances = _charge(session, parts)
        return self._row(
            job, attempt, at, outcome=end, credited=True, charged_ms=charged_ms, utterances=utterances
        )

    def _row(
        self, job: Job, attempt: Attempt, at: float, *, outcome: str, credited: bool, **numbers: int
    ) -> Usage:
        request, audio_ms = job.request, _audio_ms(job)
        return Usage(
            id=f"{attempt.wire_job_id}~{LATE}" if outcome is LATE else attempt.wire_job_id,
            tenant=request.tenant,
            key=request.key_id,
            session=request.session_id,
            job=job.id,
            attempt=attempt.number,
            node=attempt.node_id,
            owner=self._owner_of(attempt.node_id),
            utterance=request.utterance_index,
            outcome=outcome,
            audio_ms=audio_ms,
            finished_at=self._clock.epoch_ms(at) / 1000,
            credited_ms=audio_ms if credited else 0,
            **numbers,
        )


def _charge(session: _Session, parts: list[Part]) -> tuple[int, int]:
    """Milliseconds and number of those utterances that were not charged yet; now they are."""
    charged_ms = utterances = 0
    for part in parts:
        if part.name in session.charged:
            continue
        session.charged[part.name] = None
        charged_ms, utterances = charged_ms + part.audio_ms, utterances + 1
        if len(session.charged) > MAX_REMEMBERED:
            del session.charged[next(iter(session.charged))]
    return charged_ms, utterances


def _turn(session: _Session, job: Job) -> _Turn:
    name = job.request.lane, job.request.turn_id
    turn = session.turns.get(name)
    if turn is None:
        turn = session.turns[name] = _Turn()
        if len(session.turns) > MAX_REMEMBERED:
            del session.turns[next(iter(session.turns))]
    return turn


def _part(job: Job) -> Part:
    """An utterance, by a name that it keeps if it is sent again and into whatever languages it goes."""
    request = job.request
    again = f"{request.utterance_index}#{request.sound}" if request.sound else ""
    name = again or request.utterance_trace or job.id
    finished = (attempt for attempt in job.attempts if attempt.end in WORDLESS)
    places = frozenset((attempt.node_id, attempt.wire_session_id) for attempt in finished)
    return Part(request.utterance_index, name, _audio_ms(job), places)


def _audio_ms(job: Job) -> int:
    return round(job.seconds * 1000)


def _speech_ms(result: JobResult) -> int:
    """How long the speech of a result is; 0 if it cannot be told without decoding it."""
    speech = result.tts_audio or ""
    if (result.tts_format or PCM16) == PCM16:
        return len(speech) * 3 // 4 // BYTES_PER_MS
    if result.tts_format != OPUS:
        return 0
    try:
        return opus.walk(from_base64(speech)).packets * opus.PACKET_MS
    except ValueError:
        return 0
