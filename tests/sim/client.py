"""Clients: some stream chunks as web clients do, some send whole utterances (session-protocol 1.9).

How one that can resume does so is in `resuming.py`, and what it does in rooms in `visitor.py`.
"""

from __future__ import annotations

from linguad.wire import codec
from linguad.wire.common import FeatureFlags
from linguad.wire.session import (
    AsrPartial,
    AudioChunk,
    ClientMessage,
    MissingResult,
    Resume,
    ServerMessage,
    SessionClose,
    SessionInit,
    SessionInitAck,
    SessionUpdate,
    TranslationResult,
    UiEvent,
    Utterance,
)

from . import speech
from .cable import Cable
from .heard import Heard, Result
from .languages import Languages
from .server import Server
from .spec import ClientSpec
from .visitor import Visitor
from .world import World

CHUNK_S = 0.256
PACKETS_PER_CHUNK = 13

NONSENSE = ("{", "[]", '{"type":"unheard_of"}', '{"type":"utterance"}')


class Client:
    """One client from hello to its end."""

    def __init__(self, world: World, server: Server, spec: ClientSpec) -> None:
        self.heard: dict[str, Heard] = {}
        """By session; most clients have one."""
        self.session_id = ""
        self.spec = spec
        self.faulty = True
        """Whether its faults are still switched on."""
        self.ready = False
        """Whether it has a session and may speak."""
        self.visitor = Visitor(world, server, self) if spec.visits else None
        self._world = world
        self._server = server
        self._languages = spec.languages
        self._seq = world.random.randrange(1000)
        self._packet = 0
        self._index = world.random.choice([0, 0, 17])
        self._sent_before = False
        self._quiet_at = world.now + spec.talks_s
        self.cable = server.connect_client(self, spec.lag_s)
        self._hello()
        world.again_and_again(spec.dozes_every_s, self._doze, lambda: self.faulty)
        world.again_and_again(spec.updates_every_s, self._change_languages, lambda: self.faulty)

    @property
    def connected(self) -> bool:
        """Whether neither side has ended the connection."""
        return self.cable.up

    @property
    def goes_on(self) -> bool:
        """Whether it still talks; what it says may have to wait for a connection."""
        return self.connected

    def leave(self) -> None:
        """Hang up, if that did not happen yet."""
        self.cable.hang_up()

    def receive(self, cable: Cable, text: str) -> None:
        """A message of the server."""
        if cable is not self.cable:
            return
        message = codec.server_messages.decode(text)
        if isinstance(message, SessionInitAck):
            self._welcome(message)
        elif self.session_id:
            self._hear(self._now, message)

    def closed(self, cable: Cable) -> None:
        """The server ended the connection."""
        self._world.say(self.session_id, "its connection was closed")

    def send(self, message: ClientMessage) -> None:
        """Send something, if it gets through."""
        if self.faulty and self._world.chance(self.spec.garbles):
            self.cable.send(self._world.random.choice(NONSENSE))
        self.cable.send(codec.encode(message))

    def _hear(self, heard: Heard, message: ServerMessage) -> None:
        match message:
            case TranslationResult() | MissingResult():
                assert message.delivery is None, "a result is numbered, and nobody asked for it"
                self._result(heard, message)
            case UiEvent(event="ERROR"):
                heard.failed.add(message.utterance_index)
            case AsrPartial():
                heard.read |= speech.read(message.text)
            case _ if self.visitor is not None:
                self.visitor.hear(message)

    def _result(self, heard: Heard, message: Result) -> None:
        index = message.utterance_index
        if isinstance(message, MissingResult):
            self._world.say(self.session_id, f"got {index}: {message.reason}")
            tgt_lang = self._server.accounts.language_of(self.session_id, index)
            heard.left(index, tgt_lang or heard.target.get(index, ""), message.reason, late=False)
            return
        account = self._server.accounts.all[message.job_id]
        own = account.session_id == self.session_id
        who = "" if own else f" of {account.session_id}"
        late = " late" * message.late
        self._world.say(self.session_id, f"got {index}{who}: {message.text_asr}{late} ({account.job.id})")
        heard.text(message, account, own=own)

    def _hello(self, resume: Resume | None = None) -> None:
        features = FeatureFlags(**dict.fromkeys(self.spec.features, True))
        codes = self._server.codes
        self.send(
            SessionInit(
                client_version="sim",
                platform="web",
                trace_id="t-1",
                features=features,
                pairing_code=codes[-1] if self.spec.pairs and codes else None,
                resume=resume,
                **self._hello_languages().fields,
            )
        )

    def _hello_languages(self) -> Languages:
        return self._languages

    def _welcome(self, ack: SessionInitAck) -> None:
        self._begin(ack.session_id, self._languages)

    def _begin(self, session_id: str, languages: Languages) -> None:
        """A new session, which has these languages."""
        first = not self.heard
        self.session_id = session_id
        self.heard[session_id] = Heard(languages=[(-1, languages)])
        self.ready = True
        self._world.say(session_id, f"{self.spec}")
        if self.visitor is not None:
            self.visitor.moved()
        if first:
            self._world.after(self._world.between(0.0, 5.0), self._talk)

    def _speak(self, packets: int, silent: bool) -> list[bytes]:
        """So many packets of sound."""
        first, self._packet = self._packet, self._packet + packets
        numbers = range(first, self._packet)
        self._now.spoken.update(dict.fromkeys(numbers, silent))
        return [speech.packet(number, silent) for number in numbers]

    @property
    def _now(self) -> Heard:
        return self.heard[self.session_id]

    def _talk(self) -> None:
        if not self.goes_on:
            return
        if self._world.now >= self._quiet_at:
            self._world.after(2.0, self._end)
        elif self.spec.streams:
            self._sentence()
        else:
            self._utterances()

    def _end(self) -> None:
        match self.spec.ending:
            case "closes":
                self.send(SessionClose(session_id=self.session_id, reason="client_disconnect"))
            case "drops":
                self.cable.hang_up()
            case "vanishes":
                self.cable.tear()
            case "begins anew":
                self._hello()

    def _doze(self) -> None:
        self._world.say(self.session_id, "reads nothing")
        self.cable.stop_reading(self._world.between(1.0, 90.0))

    def _change_languages(self) -> None:
        if self.ready and self.goes_on:
            self._languages, message = self._languages.changed(self._world.random, self.session_id)
            self._world.say(self.session_id, f"wants {self._languages}")
            self._now.languages.append((self._packet, self._languages))
            self._say(message)

    # Streaming

    def _sentence(self) -> None:
        """A sentence in chunks of 256 ms; then a final in one of its ways, or just silence."""
        world = self._world
        short = world.chance(0.1)
        chunks = 1 if short else max(1, round(world.between(0.2, self.spec.longest_s) / CHUNK_S))
        silent = world.chance(0.1)
        for number in range(chunks):
            world.after(number * CHUNK_S, self._chunk, silent, not number)
        end = chunks * CHUNK_S
        if self.spec.updates_every_s and world.chance(0.2):
            world.after(end + world.between(-0.2, 0.3), self._change_languages)
        match world.random.choice(["final", "final", "final with tail", "pause"]):
            case "final":
                world.after(end, self._final)
            case "final with tail":
                world.after(end, self._final)
                world.after(end + 0.003, self._chunk, silent)
            case _:
                end += 3.5
        world.after(end + world.between(0.2, 6.0), self._talk)

    def _chunk(self, silent: bool, begins: bool = False) -> None:
        if self.goes_on:
            heard = self._now
            if begins:
                heard.sentences.append(self._packet)
            heard.sent_at[self._packet] = self._world.now
            self._say_chunk(speech.encode(self._speak(PACKETS_PER_CHUNK, silent)), final=False)

    def _final(self) -> None:
        if self.goes_on:
            self._say_chunk("", final=True)

    def _say_chunk(self, payload: str, *, final: bool) -> None:
        self._seq += 1
        self._say(AudioChunk(session_id=self.session_id, seq=self._seq, is_final=final, payload=payload))

    def _say(self, message: AudioChunk | SessionUpdate) -> None:
        """Something that has its place in the stream of speech."""
        self.send(message)

    # Whole utterances

    def _utterances(self) -> None:
        """One or two utterances, sometimes swapped, sent twice, without sound, or with a number left out."""
        world = self._world
        self._index += 1 + world.chance(0.1)
        first = self._utterance(self._index)
        if self._sent_before and world.chance(0.2):
            self._index += 1
            self._say_utterance(self._utterance(self._index))
            self._now.out_of_turn.add(first.utterance_index)
            world.after(0.1, self._say_utterance, first)
        else:
            self._say_utterance(first)
        if world.chance(0.1):
            self._now.sent_again.add(first.utterance_index)
            world.after(world.random.choice([0.0, 0.0, 5.0, 20.0]), self._say_again, first)
        self._sent_before = True
        world.after(world.between(0.3, 5.0), self._talk)

    def _say_utterance(self, utterance: Utterance) -> None:
        self._now.sent_at.setdefault(utterance.utterance_index, self._world.now)
        self.send(utterance)

    def _say_again(self, utterance: Utterance) -> None:
        self.send(utterance)

    def _utterance(self, index: int) -> Utterance:
        world, heard = self._world, self._now
        empty = world.chance(0.05)
        packets = (
            []
            if empty
            else self._speak(round(world.between(0.2, self.spec.longest_s) * 50), world.chance(0.1))
        )
        if empty:
            heard.empty.append(index)
        tgt_lang = self.spec.tgt
        if self.spec.second_tgt and world.chance(0.3):
            tgt_lang = self.spec.second_tgt
        heard.target[index] = tgt_lang
        return Utterance(
            session_id=self.session_id,
            utterance_index=index,
            manual_cut=True,
            src_lang="auto" if self.spec.two_way else self.spec.src,
            tgt_lang=tgt_lang,
            audio=speech.encode(packets),
            audio_format="opus",
            sample_rate=16000,
        )
