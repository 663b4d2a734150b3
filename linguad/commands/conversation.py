"""One sound file on its way through a session, and what is said about its utterances."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from linguad import audio, client
from linguad.errors import LinguadError
from linguad.wire.session import ErrorMessage, MissingResult, ServerHeartbeat, TranslationResult, UiEvent

CHUNK_S = client.CHUNK_SAMPLES / audio.WIRE_RATE
"""Speech in a chunk, s."""

SLICE_S = 10.0
"""Length at which servers cut running speech by default (`sessions.max_duration_ms`), s."""

SHORTEST_S = 0.4
"""A rest shorter than this may be merged or dropped by the server, so no answer is expected for it, s."""

MAX_AHEAD_S = 2 * SLICE_S
"""Unanswered speech above which sending slows down to the pace of speech, so as not to flood a node, s."""

PAUSE_S = 0.001
"""Between two chunks of a fast transfer: the server serves others as well, s."""

SETTLE_S = 0.5
"""After the final, or its repetition: more than the server waits for a late chunk and a short rest, s."""

QUIET_S = 12.0
"""When all known utterances are answered: how long another may hide in the server's queue (10 s there), s."""

NO_ANSWER = frozenset({"gap_timeout", "cancelled"})
"""Reasons after which a result may come all the same: late, or of the server that is started next."""


class TranslateError(LinguadError):
    """The file did not come back translated; the text says why and what to do next."""


@dataclass
class Answers:
    """What was said about each utterance so far; the indexes are the server's, and go on in a new session."""

    known: set[int] = field(default_factory=set)
    results: dict[int, TranslationResult] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    """Reasons of utterances that will have no result."""
    _first: int = 0
    """Index of the session's first utterance."""

    def take(self, event: client.Event) -> bool:
        """Note an event; true if it said anything about an utterance."""
        match event:
            case TranslationResult(utterance_index=index):
                index += self._first
                self.results[index] = event
                self.missing.pop(index, None)
            case MissingResult(utterance_index=index):
                index += self._first
                if index not in self.results and event.reason not in NO_ANSWER:
                    self.missing[index] = event.reason
            # Other events tell of languages, or of speech that may be too short to count.
            case UiEvent(utterance_index=index) if event.job_id or event.event == "INPUT_ENDED":
                index += self._first
            case _:
                return False
        self.known.add(index)
        return True

    def begin_anew(self) -> None:
        """The session is lost; what has no answer goes to the next one, under other indexes."""
        self.known -= set(self.open)
        self._first = max(self.known, default=-1) + 1

    @property
    def complete(self) -> bool:
        """At least one utterance is known, and none is still open."""
        return bool(self.known) and not self.open

    @property
    def open(self) -> list[int]:
        """Utterances that were announced and not answered, in order."""
        return sorted(self.known - self.results.keys() - self.missing.keys())

    @property
    def in_order(self) -> list[TranslationResult]:
        """The results by index."""
        return [result for _, result in sorted(self.results.items())]


class Conversation:
    """One file on its way through a session; one task sends and listens in turn."""

    def __init__(
        self,
        session: client.Session,
        seconds: float,
        on_sent: Callable[[float], object],
        on_reconnect: Callable[[client.Reconnected], object],
    ) -> None:
        self.answers = Answers()
        self.reconnects = 0
        """Lost connections that were made again."""
        self._session = session
        self._seconds = seconds
        self._on_sent = on_sent
        self._on_reconnect = on_reconnect
        self._settled = False

    async def speak(self, payloads: list[bytes], realtime: bool) -> None:
        """Send the chunks and the final. Raises ClientError and TranslateError."""
        started = trio.current_time()
        for count, payload in enumerate(payloads, start=1):
            await self._session.send_audio(payload, "opus")
            sent_s = min(count * CHUNK_S, self._seconds)
            self._on_sent(sent_s)
            if realtime:
                await self._listen_until(started + sent_s)
            else:
                answered_s = SLICE_S * (len(self.answers.results) + len(self.answers.missing))
                slow = sent_s - answered_s > MAX_AHEAD_S
                await self._listen_until(trio.current_time() + (CHUNK_S if slow else PAUSE_S))
        await self._session.finish_utterance()

    async def listen(self) -> None:
        """Wait until every utterance is answered. Raises ClientError and TranslateError.

        How many there will be is the server's affair; ours is how many its usual cuts give. When as many are
        answered, one heartbeat makes sure that nothing else was announced behind the last answer.
        """
        whole, rest = divmod(self._seconds, SLICE_S)
        expected = int(whole) + (rest >= SHORTEST_S)
        asked = self._settled = False
        while True:
            if not self._settled:
                asked, self._settled = False, True
                await self._listen_until(trio.current_time() + SETTLE_S)
                continue
            done = self.answers.complete and len(self.answers.known) >= expected
            if done and not asked:
                await self._session.heartbeat()
                asked = True
            may_end = self.answers.complete or not expected
            with trio.move_on_after(QUIET_S if may_end else math.inf) as quiet:
                event = await self._session.receive()
            if quiet.cancelled_caught or (done and isinstance(event, ServerHeartbeat)):
                return
            if self._take(event):
                asked = False

    async def _listen_until(self, when: float) -> None:
        with trio.move_on_at(when):
            while True:
                self._take(await self._session.receive())

    def _take(self, event: client.Event) -> bool:
        if isinstance(event, ErrorMessage):
            raise TranslateError(f"the server reports: {event.message} ({event.code})")
        if isinstance(event, client.Reconnected):
            self.reconnects += 1
            self._settled = False
            if not event.recovered:
                self.answers.begin_anew()
            self._on_reconnect(event)
        return self.answers.take(event)
