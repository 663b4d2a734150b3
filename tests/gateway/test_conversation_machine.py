"""Any history of a client, the core and the clock keeps the promises of `/v1/stream` (gateway 6.3).

One answer for each utterance, translations in order, no more with the core than allowed, nothing of a session
after its `ended`, nothing at all after the close.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from script import KEY, Stage, event, missing, partial, pcm, result

from linguad.errors import CloseReason
from linguad.gateway.stream.rules import StreamRules
from linguad.wire.session import ServerMessage

RULES = StreamRules(backlog_bytes=3 * len(pcm(10)), burst=40, answer_s=50.0, idle_s=60.0, max_s=400.0)
INDEX = st.integers(0, 12)
REASONS = st.sampled_from(["silence_detected", "merged", "gap_timeout", "job_failed", "cancelled", "odd"])
EVENTS = st.sampled_from(["INPUT_STARTED", "INPUT_ENDED", "DISPATCHED", "ERROR"])
ANSWERS = ("final", "empty")


class AnyHistory(RuleBasedStateMachine):
    """A client and a core that do anything."""

    @initialize(known=st.booleans())
    def connect(self, known: bool) -> None:
        self.stage = Stage(known=known, rules=RULES)
        self.answered: set[int] = set()
        self.last_final = -1
        self.core_has: set[int] = set()
        self.seen = 0

    @rule(
        frame=st.sampled_from(
            [
                {"type": "auth", "token": KEY},
                {"type": "auth", "token": "wrong"},
                {"type": "start"},
                {"type": "start", "partials": True, "events": True},
                {"type": "start", "segmentation": "stream", "binary_audio": True},
                {"type": "init", "api_key": KEY},
                {"type": "end"},
                {"type": "end", "close": True},
                {"type": "cancel"},
                {"type": "ping"},
                {"type": "audio", "chunk": "?"},
                {"type": "dance"},
                "garbage",
                pcm(10),
            ]
        )
    )
    def say(self, frame: object) -> None:
        self.stage.say(frame)  # type: ignore[arg-type]

    @rule(final=st.booleans(), seq=st.none() | st.integers(0, 20))
    def speak(self, final: bool, seq: int | None) -> None:
        self.stage.audio(pcm(10), is_final=final, seq=seq)

    def _news(self, message: ServerMessage) -> None:
        self.stage.news(message)

    @rule(index=INDEX, late=st.booleans())
    def translate(self, index: int, late: bool) -> None:
        self.core_has.discard(index)
        self._news(result(index, late=late))

    @rule(index=INDEX, reason=REASONS)
    def miss(self, index: int, reason: str) -> None:
        self.core_has.discard(index)
        self._news(missing(index, reason))

    @rule(index=INDEX, name=EVENTS, job=st.booleans())
    def tell(self, index: int, name: str, job: bool) -> None:
        self._news(event(index, name, job=job, error_code="JOB_TIMEOUT" if name == "ERROR" else None))

    @rule(index=INDEX)
    def hear(self, index: int) -> None:
        self._news(partial(index))

    @rule(reason=st.sampled_from([None, CloseReason.INTERNAL_ERROR, CloseReason.SHUTDOWN]))
    def lose(self, reason: CloseReason | None) -> None:
        if self.stage.open and (reason is not None or self.stage.hung_up):
            self.stage.over(reason)

    @rule(seconds=st.sampled_from([0.1, 1.0, 20.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.stage.wait(seconds)

    @rule()
    def stop(self) -> None:
        self.stage.stop()

    @rule()
    def abandon(self) -> None:
        self.stage.abandon()

    @invariant()
    def promises_are_kept(self) -> None:
        if not hasattr(self, "stage"):
            return
        for message in self.stage.heard[self.seen :]:
            self._check(message)
        self.seen = len(self.stage.heard)
        if self.stage.closed is not None:
            assert not self.stage.open
            assert self.stage.conversation.due() is None
            return
        dialogue = self.stage.conversation.dialogue
        due = self.stage.conversation.due()
        assert due is None or due > self.stage.now - 1e-9 or self.stage.wait(0) is not None
        if dialogue is not None and not dialogue.terms.streams and self.stage.open:
            assert len(dialogue._running) <= RULES.max_inflight

    def _check(self, message: dict[str, object]) -> None:
        kind, index = message["type"], message.get("utterance_index")
        if kind == "started":
            self.answered.clear()
            self.last_final = -1
            self.in_session = True
        elif kind == "ended":
            self.in_session = False
        elif isinstance(index, int):
            assert self.in_session, "nothing of a session after its end"
            if kind in ANSWERS or kind == "error":
                assert index not in self.answered
                self.answered.add(index)
            if kind == "partial":
                assert index not in self.answered
            if kind == "final":
                assert index > self.last_final
                self.last_final = index

    def teardown(self) -> None:
        if not hasattr(self, "stage"):
            return
        stage = self.stage
        taken = 0 if stage.conversation.dialogue is None else stage.conversation.dialogue._next_index
        stage.abandon()
        self.promises_are_kept()
        assert stage.closed is not None
        assert set(range(taken)) <= self.answered or taken == 0


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=150, stateful_step_count=60)
