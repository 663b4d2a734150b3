"""What a client speaks and wants to hear, and how it changes its mind (docs/sessions.md)."""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

from linguad.core.job import JobRequest
from linguad.wire.language import AUTO
from linguad.wire.session import SessionUpdate

CODES = ("en", "es", "zh")


class Languages(NamedTuple):
    """Source and target, and the pair of a two-way session."""

    src: str
    tgt: str
    pair: tuple[str, str] | None = None

    @classmethod
    def two_way(cls, lang_a: str, lang_b: str) -> Languages:
        """Either language into the other one."""
        return cls(AUTO, lang_b, (lang_a, lang_b))

    @property
    def fields(self) -> dict[str, Any]:
        """The members of `session_init` that say it."""
        said: dict[str, Any] = {"src_lang": self.src, "tgt_lang": self.tgt}
        if self.pair is not None:
            said |= {"lang_a": self.pair[0], "lang_b": self.pair[1], "mode": "two_way_auto"}
        return said

    def update(self, session_id: str) -> SessionUpdate:
        """The message after which a session has these, whatever it had before."""
        if self.pair is not None:
            return SessionUpdate(session_id=session_id, lang_a=self.pair[0], lang_b=self.pair[1])
        return SessionUpdate(session_id=session_id, src_lang=self.src, tgt_lang=self.tgt)

    def changed(self, random: Random, session_id: str) -> tuple[Languages, SessionUpdate]:
        """Others, and the message that says so; some say only what is new."""
        src, tgt = random.sample(CODES, 2)
        if random.random() < 0.25:
            then = Languages.two_way(src, tgt)
        elif self.src in (AUTO, tgt) or random.random() < 0.5:
            then = Languages(src, tgt)
        else:
            return Languages(self.src, tgt), SessionUpdate(session_id=session_id, tgt_lang=tgt)
        return then, then.update(session_id)

    def asks(self, request: JobRequest) -> bool:
        """Whether a job is one for these; in a room others say what they want to hear."""
        if request.room_id and request.lang_a is None:
            return request.src_lang in (self.src, *(self.pair or ()))
        pair = (request.lang_a, request.lang_b) if request.lang_a and request.lang_b else None
        own_lane = request.lane != request.session_id
        return (request.src_lang, request.tgt_lang) == self[:2] and (pair == self.pair or own_lane)
