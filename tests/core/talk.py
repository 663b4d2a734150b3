"""A client's talk with its session, without sockets: what is said, what is answered, and time."""

from __future__ import annotations

import base64
from typing import Any

from core.support import CountingIds, answer, plan_a

from linguad.core.clock import Clock
from linguad.core.job import Attempt, Chosen, Job, MissingReason, Outcome
from linguad.core.key import Key
from linguad.core.lanes import Lane
from linguad.core.outputs import Ended, Output, Send, Submit
from linguad.core.rules import SessionRules
from linguad.core.services import Services
from linguad.core.session import Session
from linguad.core.utterance import CutRules
from linguad.errors import ErrorCode
from linguad.wire import session as wire

EPOCH_S = 1_700_000_000.0


def b64(data: bytes) -> str:
    """As text."""
    return base64.b64encode(data).decode()


EVERY_PIECE = CutRules(short_ms=0, burst_cuts=0)
"""Every piece of audio is an utterance, however short and however many."""


class Talk:
    """A session with a clock of its own; jobs are kept until the test resolves them."""

    def __init__(self, rules: SessionRules | None = None, **init: Any) -> None:
        members = {
            "client_version": "1",
            "platform": "web",
            "src_lang": "en",
            "tgt_lang": "es",
            "trace_id": "t-1",
        }
        self.session = Session(
            "s-1",
            wire.SessionInit(**(members | init)),
            rules or SessionRules(cut=EVERY_PIECE),
            CountingIds(),
            Clock(EPOCH_S),
        )
        self.now = 0.0
        self.jobs: dict[int, Job] = {}
        self.seq = 0

    def see(self, outputs: list[Output]) -> list[Output]:
        """Keep a job of every submission."""
        for output in outputs:
            if isinstance(output, Submit):
                number = len(self.jobs) + 1
                job = Job(
                    id=f"job-{number}",
                    request=output.request,
                    key=Key("en", "es", Services.ASR),
                    lane=Lane(output.request.lane, 0),
                    seconds=output.audio.seconds,
                    audio=output.audio,
                    created_at=self.now,
                )
                names = {"wire_job_id": job.id, "wire_session_id": "s-1"}
                job.attempts.append(
                    Attempt(
                        number=1,
                        node_id="a",
                        row=0,
                        sent_at=self.now + 0.01,
                        deadline=self.now + 60.0,
                        chosen=Chosen.BEST,
                        **names,
                    )
                )
                self.jobs[output.request.utterance_index] = job
        return outputs

    def say(self, message: wire.ClientMessage) -> list[Output]:
        return self.see(self.session.handle(message, self.now))

    def chunk(self, payload: bytes = b"", *, final: bool = False, **members: Any) -> list[Output]:
        self.seq += 1
        return self.say(
            wire.AudioChunk(session_id="s-1", seq=self.seq, is_final=final, payload=b64(payload), **members)
        )

    def utterance(self, index: int, tgt: str = "es", **members: Any) -> list[Output]:
        defaults = {"audio": b64(plan_a(5)), "audio_format": "opus", "sample_rate": 16000, "src_lang": "en"}
        return self.say(
            wire.Utterance(
                session_id="s-1", utterance_index=index, manual_cut=True, tgt_lang=tgt, **(defaults | members)
            )
        )

    def resolve(self, index: int, outcome: Outcome | None = None) -> list[Output]:
        job = self.jobs[index]
        if outcome is None:
            outcome = Outcome(result=answer(job.attempts[0]), received_at=self.now)
        return self.see(self.session.resolve(job, outcome, self.now))

    def wait(self, seconds: float) -> list[Output]:
        """Time passes; the session is woken whenever it asked for."""
        until, outputs = self.now + seconds, []
        while (due := self.session.due()) is not None and due <= until:
            self.now = max(self.now, due)
            outputs += self.see(self.session.tick(self.now))
            if any(isinstance(output, Ended) for output in outputs):
                break
        self.now = until
        return outputs


def submitted(outputs: list[Output]) -> list[int]:
    """Indexes of what was submitted."""
    return [output.request.utterance_index for output in outputs if isinstance(output, Submit)]


def words(outputs: list[Output]) -> list[str]:
    """What the client reads, each message in a word or two."""
    found = []
    for output in outputs:
        match output:
            case Send(message=wire.TranslationResult() as message):
                found.append(f"{message.utterance_index}:{message.text_translated}" + " late" * message.late)
            case Send(message=wire.MissingResult() as message):
                found.append(f"{message.utterance_index}:{message.reason}")
            case Send(message=wire.UiEvent() as message):
                found.append(f"{message.utterance_index}:{message.event}")
            case Send(message=wire.ErrorMessage() as message):
                found.append(f"error {message.code}")
            case Send(message=message):
                found.append(type(message).__name__)
            case Ended():
                found.append("ended")
    return found


def missing(reason: MissingReason, error: ErrorCode | None = None) -> Outcome:
    """No result."""
    return Outcome(missing=reason, error=error)
