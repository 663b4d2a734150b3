"""A client that goes on after a lost connection, however often it is lost (docs/sessions.md)."""

from __future__ import annotations

from msgspec.structs import replace

from linguad.core.rules import SessionRules
from linguad.wire.session import (
    AudioAck,
    AudioChunk,
    MissingResult,
    ResultAck,
    Resume,
    ServerMessage,
    SessionInitAck,
    SessionUpdate,
    TranslationResult,
    Utterance,
)

from . import speech
from .cable import Cable
from .client import PACKETS_PER_CHUNK, Client
from .heard import Heard
from .languages import Languages
from .memory import Memory, Said
from .server import Server
from .spec import ClientSpec
from .world import World

AWAY_S = (0.01, 0.3, 2.0, 6.0, 45.0)
"""How long it takes until it connects again."""

NOTICES_S = (0.5, 3.0, 15.0)
"""How long it takes until it notices that nothing gets through."""

TRIES_AGAIN_S = 2.0


class ResumingClient(Client):
    """It speaks on while it has no connection, and keeps what has no results yet."""

    def __init__(self, world: World, server: Server, spec: ClientSpec) -> None:
        self._memory = Memory(spec.languages)
        self._asked = spec.languages
        """The languages of its last hello."""
        self._told_wrong = False
        """Whether its last hello named a session that it may not have."""
        self._told_old = False
        """Whether that hello asked for results which it once said it has."""
        self._lost_at: float | None = None
        """Since when its connection may be lost; None while it works."""
        self._old: list[Cable] = []
        self._left: list[Cable] = []
        self._served: dict[Cable, str] = {}
        """The session of each connection."""
        self._over = False
        self._expected = 1
        """The number of the result that comes next."""
        super().__init__(world, server, spec)
        world.again_and_again(spec.breaks_every_s, self._break, lambda: self.faulty)

    @property
    def connected(self) -> bool:
        """Whether it speaks for its session now."""
        return self.ready and self.cable.up

    @property
    def goes_on(self) -> bool:
        """Whether it still talks; what it says may have to wait for a connection."""
        return not self._over

    @property
    def last_delivery(self) -> int:
        """The number of the last result it has."""
        return self._memory.delivery

    def leave(self) -> None:
        """Hang up for good, also where it forgot to."""
        self._over, self.ready = True, False
        for cable in (*self._old, self.cable):
            cable.hang_up()

    @property
    def forgotten(self) -> list[Cable]:
        """Connections of its session that it left, and that the server should have closed since."""
        return [cable for cable in self._left if cable.up and cable.works]

    def closed(self, cable: Cable) -> None:
        """The server ended the connection; it comes back."""
        if cable is self.cable:
            super().closed(cable)
            self._lose()
            self._come_back_later()

    def _end(self) -> None:
        if not self.ready:
            self._world.after(2.0, self._end)
            return
        if self.spec.ending == "begins anew":
            self._memory = Memory(self._languages)
            self._lose()
        super()._end()
        self._over = self.spec.ending in ("closes", "drops", "vanishes")

    # Losing connections

    def _break(self) -> None:
        if self._over or not self.ready:
            return
        cable, how = self.cable, self._world.random.choice(("hangs up", "torn", "half-open", "hello again"))
        self._world.say(self.session_id, f"breaks: {how}")
        match how:
            case "hangs up":
                cable.hang_up()
                self._lose()
                self._come_back_later()
            case "torn":
                cable.tear()
                self._fear()
                self._world.after(self._world.random.choice(NOTICES_S), self._notice, cable)
            case "half-open":
                self._lose()
                self._connect()
            case _:
                self._lose()
                self._hello(self._resume())

    def _notice(self, cable: Cable) -> None:
        if cable is self.cable and not self._over:
            self.ready = False
            self._connect()

    def _fear(self) -> None:
        """From now on the server may think that it is gone."""
        if self._lost_at is None:
            self._lost_at = self._world.now

    def _lose(self) -> None:
        self._fear()
        self.ready = False

    def _come_back_later(self) -> None:
        """Connect again after a while, unless it did so before."""
        away_s = self._world.random.choice(AWAY_S) if self.faulty else TRIES_AGAIN_S
        self._world.after(away_s, self._come_back, self.cable)

    def _come_back(self, lost: Cable) -> None:
        if lost is self.cable and not self._over and not self._server.stopping:
            self._connect()

    def _connect(self) -> None:
        self._old.append(self.cable)
        self.cable = self._server.connect_client(self, self.spec.lag_s)
        self._hello(self._resume())

    def _resume(self) -> Resume:
        memory, world = self._memory, self._world
        token, delivery, session_id = memory.token, memory.delivery, self.session_id
        self._told_wrong = False
        if self.spec.careless and self.faulty:
            if world.chance(0.2):
                delivery = world.random.randint(0, delivery)
            if world.chance(0.1):
                token, self._told_wrong = "wrong", True
            elif world.chance(0.05):
                session_id, self._told_wrong = "nobody", True
        memory.presented = delivery
        self._told_old = delivery < memory.acknowledged
        memory.acknowledged = max(memory.acknowledged, delivery)
        return Resume(session_id=session_id, resume_token=token, delivery=delivery)

    def _hello(self, resume: Resume | None = None) -> None:
        self._asked = self._memory.languages
        super()._hello(resume if resume is not None and self._memory.token else Resume())

    def _hello_languages(self) -> Languages:
        return self._asked

    # Coming back

    def _welcome(self, ack: SessionInitAck) -> None:
        self._served[self.cable] = ack.session_id
        assert ack.resume_token, "a client that asked for it got no token"
        if ack.recovered:
            self._go_on(ack)
        else:
            self._go_on_anew(ack)
        self._lost_at = None

    def _go_on(self, ack: SessionInitAck) -> None:
        memory = self._memory
        assert ack.session_id == self.session_id, "another session is resumed"
        assert not self._told_wrong, "a session was opened with a wrong token or name"
        assert (ack.delivery or 0) >= memory.delivery, "the server forgot results"
        seq = -1 if ack.audio_seq is None else ack.audio_seq
        assert memory.settled <= seq <= self._seq, f"{seq} chunks came, of {self._seq}"
        self._expected = memory.presented + 1
        self._left = [cable for cable in self._old if self._served.get(cable) == self.session_id]
        self.ready = True
        if self.visitor is not None:
            self.visitor.back()
        self._world.say(self.session_id, f"goes on after result {memory.presented} and chunk {seq}")
        if self.spec.careless and self._world.chance(0.3):
            for message in memory.chunks_up_to(seq):
                self.send(message)
        for said in memory.missing_after(seq):
            self.send(said.message)
        for index in sorted(memory.utterances):
            self._now.sent_again.add(index)
            self.send(memory.utterances[index])

    def _go_on_anew(self, ack: SessionInitAck) -> None:
        """A new session: what is not settled is sent to it."""
        memory, before = self._memory, self.session_id
        self._expect_recovery(ack)
        memory.began(ack.resume_token or "")
        self._expected = 1
        self._sent_before = False
        self._begin(ack.session_id, self._asked)
        heard, old = self._now, self.heard.get(before, Heard())
        if memory.languages != self._asked:
            heard.languages.append((0, memory.languages))
            self.send(memory.languages.update(ack.session_id))
        unsettled, memory.said = memory.said, type(memory.said)()
        for said in unsettled:
            message = replace(said.message, session_id=ack.session_id)
            memory.say(said._replace(message=message))
            if said.languages is not None:
                heard.languages.append((said.first, said.languages))
            self._note_packets(said, old, heard)
            self.send(message)
        for index in sorted(memory.utterances):
            self._say_utterance(memory.utterances[index])

    def _expect_recovery(self, ack: SessionInitAck) -> None:
        """A session is only lost if it was away too long, or said something wrong."""
        memory, server = self._memory, self._server
        rules = server.settings.sessions
        lost_at = self._world.now if self._lost_at is None else self._lost_at
        away_s = self._world.now - lost_at + self.spec.lag_s
        assert (
            not memory.token
            or self._told_wrong
            or self._told_old
            or self.spec.dozes_every_s
            or away_s >= rules.detach_grace_s
            or rules.kept_results < SessionRules().kept_results
            or server.process.lost_s
        ), f"{self.session_id} is lost after {away_s:.1f} s, {ack.session_id} is there instead"

    def _note_packets(self, said: Said, old: Heard, heard: Heard) -> None:
        """Its sound belongs to the new session as well."""
        if isinstance(said.message, AudioChunk) and said.message.payload:
            for number in range(said.first, said.first + PACKETS_PER_CHUNK):
                heard.spoken[number] = old.spoken[number]
            heard.sent_at[said.first] = self._world.now
            if said.first in old.sentences or not heard.sentences:
                heard.sentences.append(said.first)

    def _note_utterance(self, utterance: Utterance, old: Heard) -> None:
        """It was spoken in an old session and belongs to the new one as well."""
        index, heard = utterance.utterance_index, self._now
        if not utterance.audio:
            heard.empty.append(index)
        for number in speech.numbers(speech.decode(utterance.audio)):
            heard.spoken[number] = old.spoken[number]
        heard.target[index] = utterance.tgt_lang
        if any(later > index for later in heard.sent_at):
            heard.out_of_turn.add(index)
        self._sent_before = True

    # Talking

    def _say(self, message: AudioChunk | SessionUpdate) -> None:
        if isinstance(message, AudioChunk):
            first = self._packet - PACKETS_PER_CHUNK * bool(message.payload)
            said = Said(message.seq, message, first)
        else:
            said = Said(self._seq, message, self._packet, self._languages)
        self._memory.say(said)
        if self.ready:
            self.send(message)

    def _say_utterance(self, utterance: Utterance) -> None:
        if utterance.session_id != self.session_id:
            self._note_utterance(utterance, self.heard[utterance.session_id])
            utterance = replace(utterance, session_id=self.session_id)
        self._memory.utterances[utterance.utterance_index] = utterance
        if self.ready:
            super()._say_utterance(utterance)

    def _say_again(self, utterance: Utterance) -> None:
        if self.ready and utterance.session_id == self.session_id:
            self.send(utterance)

    # Listening

    def _hear(self, heard: Heard, message: ServerMessage) -> None:
        match message:
            case TranslationResult() | MissingResult():
                self._numbered(heard, message)
            case AudioAck():
                self._settled(message)
            case _:
                super()._hear(heard, message)

    def _numbered(self, heard: Heard, message: TranslationResult | MissingResult) -> None:
        number = message.delivery
        assert number == self._expected, f"result {number} came instead of {self._expected}"
        self._expected += 1
        known = heard.results.setdefault(number, message)
        if known is not message:
            assert known == message, f"result {number} is another one than before"
            return
        self._memory.delivery = number
        if message.session_id == self.session_id:
            self._memory.utterances.pop(message.utterance_index, None)
        self._result(heard, message)
        if self._world.chance(self.spec.acknowledges):
            self._memory.acknowledged = number
            self.send(ResultAck(session_id=self.session_id, delivery=number))

    def _settled(self, ack: AudioAck) -> None:
        """All that was said up to this chunk has its results, and this client has those that are for it."""
        accounts = self._server.accounts.of(self.session_id)
        for said in self._memory.settle(ack.seq):
            if not isinstance(said.message, AudioChunk) or not said.message.payload:
                continue
            packets = range(said.first, said.first + PACKETS_PER_CHUNK)
            holding = [one for one in accounts if speech.overlap(one.span, packets)]
            covered = {number for one in holding for number in one.span}
            assert covered.issuperset(packets), f"chunk {said.seq} is settled, and not all of it is cut"
            for account in holding:
                assert account.settled, f"chunk {said.seq} is settled before {account.job.id} is over"
                if account.job.request.for_speaker:
                    left = account.index in self._now.on_time
                    assert left, f"chunk {said.seq} is settled before {account.index} left"
