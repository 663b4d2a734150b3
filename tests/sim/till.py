"""What linguad charges, against what nodes read in the sound: charged is what was delivered, each once."""

from __future__ import annotations

from collections.abc import Iterator

from linguad.core.job import MissingReason
from linguad.core.metering import Usage

from . import speech
from .accounts import Account

PACKET_MS = 20


class Till:
    """The books of the simulated daemon."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Usage]] = {}
        self._names: set[str] = set()
        self._over: set[str] = set()

    def record(self, row: Usage) -> None:
        """An attempt ended."""
        assert row.id not in self._names, f"{row.id} is recorded twice"
        assert row.session not in self._over, f"{row.id} is recorded after the end of {row.session}"
        self._names.add(row.id)
        self._rows.setdefault(row.session, []).append(row)

    def session_ended(self, session_id: str) -> None:
        """A session can be settled."""
        self._over.add(session_id)

    def problems(self, session_id: str, accounts: list[Account], *, honest: bool) -> Iterator[str]:
        """What is wrong with what a session was charged; a node that lies may read what was not said."""
        rows = self._rows.get(session_id, [])
        charged_ms = sum(row.charged_ms for row in rows)
        utterances = {tuple(speech.numbers(account.packets)) for account in accounts}
        said_ms = sum(len(packets) for packets in utterances) * PACKET_MS
        if charged_ms > said_ms:
            yield f"{session_id} is charged {charged_ms} ms, {said_ms} ms were said"
        ended = sum(not attempt.open for account in accounts for attempt in account.job.attempts)
        if (written := sum(row.outcome != "late" for row in rows)) != ended:
            yield f"{session_id} has {written} rows of {ended} attempts that ended"
        if not honest:
            return
        outcomes = [(account, outcome) for account in accounts for outcome in account.outcomes]
        texts = [outcome.result.text_asr or "" for _, outcome in outcomes if outcome.result]
        read = {number for text in texts for number in speech.read(text)}
        told = {
            tuple(speech.numbers(account.packets))
            for account, outcome in outcomes
            if outcome.result or outcome.missing is MissingReason.MERGED
        }
        delivered_ms = sum(len(packets) for packets in told if not read.isdisjoint(packets)) * PACKET_MS
        if charged_ms != delivered_ms:
            yield f"{session_id} is charged {charged_ms} ms, {delivered_ms} ms were delivered"
