"""What was said in one session, and what came back; much of what a client may rely on is asserted here."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field

from linguad.core.job import MissingReason
from linguad.wire.session import MissingResult, TranslationResult

from . import speech
from .accounts import Account
from .languages import Languages

FAILURES = frozenset(MissingReason) - {MissingReason.SILENCE, MissingReason.MERGED}
"""Reasons after which the same utterance may be sent again."""

LATE = (MissingReason.GAP_TIMEOUT, MissingReason.OVERFLOW)
"""Reasons after which a text may still come, or the news that it never will."""

Result = TranslationResult | MissingResult


@dataclass
class Heard:
    """Indexes are those of the speaker; in a room a client is shown others."""

    spoken: dict[int, bool] = field(default_factory=dict)
    """Packet number to whether it is silence, in the order in which they were said."""
    on_time: dict[int, str] = field(default_factory=dict)
    """Each index that left in order: "" with a text, else the reason why there is none."""
    missed: Counter[int] = field(default_factory=Counter)
    """How often each index left without a text; more than once if it was sent again."""
    late: Counter[int] = field(default_factory=Counter)
    read: set[int] = field(default_factory=set)
    """Packets read in texts, partial ones as well."""
    failed: set[int] = field(default_factory=set)
    """Indexes whose failure was told, be it after the client was told to go on without them."""
    empty: list[int] = field(default_factory=list)
    """Indexes of utterances that were sent without sound."""
    sent_again: set[int] = field(default_factory=set)
    out_of_turn: set[int] = field(default_factory=set)
    """Indexes of utterances that were sent after the next one."""
    target: dict[int, str] = field(default_factory=dict)
    """Into which language a whole utterance was wanted."""
    sent_at: dict[int, float] = field(default_factory=dict)
    """When each whole utterance, or packet of streamed speech, was sent first; world time."""
    room_jobs: list[str] = field(default_factory=list)
    """Jobs made in rooms, its own and those of others, in the order in which their texts came."""
    sentences: list[int] = field(default_factory=list)
    """The first packet of each sentence."""
    languages: list[tuple[int, Languages]] = field(default_factory=list)
    """From which packet on which languages hold."""
    results: dict[int, Result] = field(default_factory=dict)
    """By delivery number, if it can be resumed."""
    _shown: set[int] = field(default_factory=set)
    _highest_shown: int = -1
    _last: dict[tuple[str, str], int] = field(default_factory=dict)
    """Highest index that left, of each speaker and language."""

    def text(self, result: TranslationResult, account: Account, *, own: bool) -> None:
        """A text came, of this session or of another one in the same room."""
        request, shown, late = account.job.request, result.utterance_index, result.late
        assert result.session_id == request.session_id, "a text names another speaker than its job"
        assert shown not in self._shown or shown in self.sent_again, f"two texts are shown as {shown}"
        self._shown.add(shown)
        if request.room_id:
            assert shown > self._highest_shown, f"{shown} is shown in a room after {self._highest_shown}"
            self._highest_shown = shown
            self.room_jobs.append(account.job.id)
        else:
            assert own, f"{account.job.id} was not for this session"
            assert shown == account.index, f"{account.index} left as {shown}"
        if own:
            self.read |= speech.read(result.text_asr)
            self.left(account.index, request.tgt_lang, "", late=late)
        elif not late:
            self._in_turn(account.index, request.session_id, request.tgt_lang)

    def left(self, index: int, tgt_lang: str, reason: str, *, late: bool) -> None:
        """Every index leaves once, in the order of its language, and once more if its text comes late.

        What is given up when the server stops is told last, in no order.
        """
        if late:
            self.late[index] += 1
            assert self.late[index] <= self.missed[index], f"index {index} came late, and was not missed"
            return
        self.missed[index] += bool(reason)
        if index in self.on_time:
            before = self.on_time[index]
            again = index in self.sent_again and before in FAILURES
            never = reason == MissingReason.CANCELLED and before in LATE
            assert again or never, f"index {index} left twice"
        elif index not in self.out_of_turn and reason != MissingReason.CANCELLED:
            self._in_turn(index, "", tgt_lang)
        self.on_time[index] = reason

    def languages_at(self, packet: int) -> Languages:
        """Those that held when this packet was said."""
        at = bisect_right(self.languages, packet, key=lambda change: change[0])
        return self.languages[at - 1][1]

    def _in_turn(self, index: int, speaker: str, tgt_lang: str) -> None:
        last = self._last.get((speaker, tgt_lang), -1)
        assert index > last, f"index {index} of {speaker or 'this session'} left after {last}"
        self._last[speaker, tgt_lang] = index
