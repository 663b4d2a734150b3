"""People who talk at a server and keep count of what they are answered: the sessions of `linguad load`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from random import Random

import trio

from linguad import client
from linguad.commands.conversation import CHUNK_S, NO_ANSWER
from linguad.errors import LinguadError
from linguad.wire.session import ErrorMessage, MissingResult, TranslationResult

STEPS = ("cut", "queue", "send", "node", "reorder", "total")
"""Members of `time_breakdown`."""

COMPLETED, UNANSWERED, UNSAID = "completed", "unanswered", "not_said"
"""Outcomes beside the reasons of `missing_result`."""

NO_LOSS = frozenset({COMPLETED, "silence_detected", "merged"})
"""Outcomes that lose nothing."""


AT_ONCE = 50
"""Sessions that are being opened at the same time."""


@dataclass(frozen=True)
class Plan:
    """What everybody does."""

    server: str
    src: str
    tgt: str
    payloads: list[bytes]
    """The chunks of an utterance."""
    seconds: float
    """Its length."""
    realtime: bool
    timeout_s: float
    """How long the last answers are waited for."""


@dataclass
class Record:
    """Mutable: what came of it so far."""

    planned: int
    said: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    """Why sessions ended before their time, or what the server reported."""
    sessions_failed: int = 0
    reconnects: int = 0
    late_ms: list[float] = field(default_factory=list)
    """How much later than it was due each utterance began."""
    latencies_ms: list[float] = field(default_factory=list)
    """From the final of an utterance to its text, as its speaker waits."""
    stages_ms: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """The same in the words of the server."""
    changed: Callable[[], object] = lambda: None
    """Called after every outcome."""

    def ended(self, outcome: str, times: int = 1) -> None:
        """So many utterances came to this."""
        self.outcomes[outcome] += times
        self.changed()


def schedule(people: int, utterances: int, per_s: float, chance: Random) -> list[list[float]]:
    """When each of the people speaks, s from the start: at random times, in turns that are shuffled."""
    dealt: list[list[float]] = [[] for _ in range(people)]
    at_s = 0.0
    for _ in range(utterances):
        for person in chance.sample(dealt, people):
            at_s += chance.expovariate(per_s)
            person.append(at_s)
    return dealt


class Start:
    """Nobody talks before everybody has come, or has failed to."""

    def __init__(self, people: int) -> None:
        self._awaited = people
        self._all = trio.Event()
        self.at = 0.0
        """When it was."""
        self.doors = trio.CapacityLimiter(AT_ONCE)

    def is_here(self) -> None:
        """One more has come, or will not."""
        self._awaited -= 1
        if not self._awaited:
            self.at = trio.current_time()
            self._all.set()

    async def wait(self) -> float:
        """Wait for it."""
        await self._all.wait()
        return self.at


class Speaker:
    """One person. The n-th utterance of a session has the index n, for none is cut in pieces."""

    def __init__(self, plan: Plan, record: Record, times: list[float], start: Start) -> None:
        """`times` are those of the utterances, s from the start."""
        self._plan = plan
        self._record = record
        self._times = times
        self._start = start
        self._open: dict[int, float] = {}
        """When the finals of the unanswered utterances were sent, by index."""
        self._reasons: dict[int, str] = {}
        """Why some of them will have no text, though one may come late."""
        self._next = 0
        self._left = len(times)
        self._answered = trio.Event()

    async def talk(self) -> None:
        """Open a session, say everything, and wait for the answers. Raises nothing of linguad."""
        record = self._record
        try:
            async with AsyncExitStack() as stack:
                try:
                    async with self._start.doors:
                        session = await stack.enter_async_context(self._session())
                finally:
                    self._start.is_here()
                await self._converse(session)
        except* LinguadError as group:
            record.sessions_failed += 1
            record.problems[str(_first(group))] += 1
        for index in self._open:
            record.ended(self._reasons.get(index, UNANSWERED))
        if self._left:
            record.ended(UNSAID, self._left)

    def _session(self) -> AbstractAsyncContextManager[client.Session]:
        return client.open_session(self._plan.server, self._plan.src, self._plan.tgt)

    async def _converse(self, session: client.Session) -> None:
        began = await self._start.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, session)
            for after_s in self._times:
                await trio.sleep_until(began + after_s)
                self._record.late_ms.append((trio.current_time() - began - after_s) * 1000)
                await self._say(session)
            with trio.move_on_after(self._plan.timeout_s):
                while self._open:
                    self._answered = trio.Event()
                    await self._answered.wait()
            nursery.cancel_scope.cancel()

    async def _say(self, session: client.Session) -> None:
        began = trio.current_time()
        for number, payload in enumerate(self._plan.payloads, 1):
            await session.send_audio(payload, "opus")
            if self._plan.realtime:
                await trio.sleep_until(began + min(number * CHUNK_S, self._plan.seconds))
        await session.finish_utterance()
        self._open[self._next] = trio.current_time()
        self._next += 1
        self._left -= 1
        self._record.said += 1

    async def _listen(self, session: client.Session) -> None:
        while True:
            match await session.receive():
                case TranslationResult(utterance_index=index) as result:
                    if (final_at := self._open.pop(index, None)) is not None:
                        self._completed(result, final_at)
                case MissingResult(utterance_index=index, reason=reason):
                    if reason in NO_ANSWER:
                        self._reasons[index] = reason
                    elif self._open.pop(index, None) is not None:
                        self._record.ended(reason)
                case client.Reconnected(recovered=recovered):
                    self._record.reconnects += 1
                    if not recovered:
                        self._begin_anew()
                case ErrorMessage(code=code, message=message):
                    self._record.problems[f"{message} ({code})"] += 1
            if not self._open:
                self._answered.set()

    def _completed(self, result: TranslationResult, final_at: float) -> None:
        record = self._record
        record.latencies_ms.append((trio.current_time() - final_at) * 1000)
        if (times := result.time_breakdown) is not None:
            for step in STEPS:
                record.stages_ms[step].append(getattr(times, f"{step}_ms"))
        record.ended(COMPLETED)

    def _begin_anew(self) -> None:
        """The session is lost; what has no answer is sent again in the next one, under indexes from 0 on."""
        self._open = dict(enumerate(self._open.values()))
        self._reasons = {}
        self._next = len(self._open)


async def crowd(plan: Plan, record: Record, times: list[list[float]]) -> float:
    """Have everybody talk; how long that took from the first word to the last answer, s."""
    start = Start(len(times))
    async with trio.open_nursery() as nursery:
        for own in times:
            nursery.start_soon(Speaker(plan, record, own, start).talk)
    return trio.current_time() - start.at


def _first(group: BaseExceptionGroup[LinguadError]) -> BaseException:
    """The first error of a group, which may lie in groups of its own."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
