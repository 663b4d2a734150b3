"""An account of every job; stands between sessions and engine, passes everything on, and remembers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from linguad.core.dispatch import Dispatch
from linguad.core.job import Job, JobRequest, JobStatus, Outcome
from linguad.core.utterance import Audio
from linguad.dispatch.engine import Engine
from linguad.dispatch.ports import SessionPort

from . import speech
from .roombook import Company


@dataclass(eq=False)
class Account:
    """A job, and what its session was told about its end."""

    job: Job
    session_id: str
    index: int
    packets: list[bytes]
    """The sound, which the job itself lets go of."""
    outcomes: list[Outcome]
    since: float
    """When its present stage began, on the clock of the process."""
    stage: tuple[JobStatus, int, str] | None = None
    """Its status, how many attempts it has had, and the only node it may go to."""
    company: Company | None = None
    """Who else was in its room when it was made; None outside rooms."""
    away: bool = False
    """Whether its client was away then, and might come back."""

    @property
    def span(self) -> range:
        """The numbers of its packets."""
        return range(speech.number(self.packets[0]), speech.number(self.packets[-1]) + 1)

    @property
    def settled(self) -> bool:
        """Whether its session was told of its end."""
        return bool(self.outcomes)


class Accounts:
    """Both ports in one: sessions submit here, and the engine tells of jobs here."""

    def __init__(
        self,
        dispatch: Dispatch,
        engine: Engine,
        now: Callable[[], float],
        company: Callable[[str], Company | None],
        is_away: Callable[[str], bool],
    ) -> None:
        """`company` tells who else is in the room of a session, `is_away` if its client may come back."""
        self.all: dict[str, Account] = {}
        self.open: dict[str, Account] = {}
        """Accounts not closed by `checks`; some jobs may be over since the last look."""
        self._dispatch = dispatch
        self._engine = engine
        self._now = now
        self._company = company
        self._is_away = is_away
        self._of: dict[str, list[Account]] = {}
        self._sessions: SessionPort

    def connect(self, sessions: SessionPort) -> None:
        """Say who hears of jobs; once, before anything else."""
        self._sessions = sessions

    def of(self, session_id: str) -> list[Account]:
        """The jobs of a session, in the order in which they were made."""
        return self._of.get(session_id, [])

    @property
    def sessions(self) -> list[str]:
        """All that ever had a job."""
        return list(self._of)

    def language_of(self, session_id: str, index: int) -> str | None:
        """Into which language an utterance goes for its speaker; None if there was no job."""
        for account in reversed(self.of(session_id)):
            if account.index == index and account.job.request.for_speaker:
                return account.job.request.tgt_lang
        return None

    @property
    def latest_job(self) -> str:
        """Wire id of the attempt that was made last, "" if there is none."""
        attempts = (account.job.attempts for account in reversed(self.all.values()) if account.job.attempts)
        return next((tried[-1].wire_job_id for tried in attempts), "")

    # For sessions

    def submit(self, request: JobRequest, audio: Audio) -> None:
        """Passed on; the job it makes is the newest one."""
        self._engine.submit(request, audio)
        job = next(reversed(self._dispatch.jobs.values()))
        account = self.all.get(job.id) or self._open(job)
        account.packets = speech.decode(audio.base64)
        account.company = self._company(request.session_id)
        account.away = self._is_away(request.session_id)

    def session_ended(self, session_id: str) -> None:
        """Passed on."""
        self._engine.session_ended(session_id)

    def __getattr__(self, name: str) -> Any:
        """What is no matter of accounts."""
        return getattr(self._engine, name)

    # For the engine

    def resolve(self, job: Job, outcome: Outcome) -> None:
        """Passed on, and remembered; a job that was refused at once is heard of here first."""
        account = self.all.get(job.id) or self._open(job)
        account.outcomes.append(outcome)
        self._sessions.resolve(job, outcome)

    def progress(self, job: Job, event: str) -> None:
        """Passed on."""
        self._sessions.progress(job, event)

    def partial(self, job: Job, text: str, is_final: bool) -> None:
        """Passed on."""
        self._sessions.partial(job, text, is_final)

    def nodes_changed(self) -> None:
        """Passed on."""
        self._sessions.nodes_changed()

    def _open(self, job: Job) -> Account:
        request = job.request
        account = Account(job, request.session_id, request.utterance_index, [], [], self._now())
        self.all[job.id] = self.open[job.id] = account
        self._of.setdefault(request.session_id, []).append(account)
        return account
