"""Clients: some stream chunks as web clients do, some send whole utterances (session-protocol 1.9)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from linguad.core.job import MissingReason
from linguad.wire import codec
from linguad.wire.common import FeatureFlags
from linguad.wire.session import (
    AsrPartial,
    AudioChunk,
    ClientMessage,
    MissingResult,
    ServerMessage,
    SessionClose,
    SessionInit,
    SessionInitAck,
    TranslationResult,
    UiEvent,
    Utterance,
)

from . import speech
from .cable import LAG_S, Cable
from .server import Server
from .world import World

CHUNK_S = 0.256
PACKETS_PER_CHUNK = 13

NONSENSE = ("{", "[]", '{"type":"unheard_of"}', '{"type":"utterance"}')

FAILURES = frozenset(MissingReason) - {MissingReason.SILENCE, MissingReason.MERGED}
"""Reasons after which the same utterance may be sent again."""


@dataclass(frozen=True)
class ClientSpec:
    """A client before it connects."""

    src: str
    tgt: str
    streams: bool
    two_way: bool = False
    talks_s: float = 60.0
    longest_s: float = 12.0
    """Longest sentence, s; beyond ten it is cut into slices."""
    ending: str = "stays"
    """When it has talked it `stays`, `closes`, `drops` its socket, `vanishes`, or `begins anew` on it."""
    second_tgt: str = ""
    """Some utterances are wanted into this language instead."""
    features: tuple[str, ...] = ()
    pairs: bool = False
    """It gives the pairing code that was shown last."""
    lag_s: float = LAG_S
    dozes_every_s: float = 0.0
    """It reads nothing for a while."""
    garbles: float = 0.0
    """Chance that a message is preceded by nonsense."""


@dataclass
class Heard:
    """All that was said in a session and all that came back."""

    spoken: dict[int, bool] = field(default_factory=dict)
    """Packet number to whether it is silence."""
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
    """Into which language an utterance was wanted, if not into that of its session."""
    last: dict[str, int] = field(default_factory=dict)
    """Highest index that left, of each language."""

    def left(self, index: int, reason: str, *, late: bool) -> None:
        """Every index leaves once, in the order of its language, and once more if its text comes late."""
        if late:
            self.late[index] += 1
            assert self.late[index] <= self.missed[index], f"index {index} came late, and was not missed"
            return
        self.missed[index] += bool(reason)
        if index in self.on_time:
            again = index in self.sent_again and self.on_time[index] in FAILURES
            assert again, f"index {index} left twice"
            self.on_time[index] = reason
        else:
            last = self.last.get(target := self.target.get(index, ""), -1)
            assert index > last or index in self.out_of_turn, f"index {index} left after {last}"
            self.last[target] = max(last, index)
            self.on_time[index] = reason


class Client:
    """One client from hello to its end."""

    def __init__(self, world: World, server: Server, spec: ClientSpec) -> None:
        self.heard: dict[str, Heard] = {}
        """By session; most clients have one."""
        self.session_id = ""
        self.spec = spec
        self.faulty = True
        """Whether its faults are still switched on."""
        self._world = world
        self._server = server
        self._cable = server.connect_client(self, spec.lag_s)
        self._seq = world.random.randrange(1000)
        self._packet = 0
        self._index = world.random.choice([0, 0, 17])
        self._sent_before = False
        self._quiet_at = world.now + spec.talks_s
        self._hello()
        world.again_and_again(spec.dozes_every_s, self._doze, lambda: self.faulty)

    @property
    def connected(self) -> bool:
        """Whether neither side has ended the connection."""
        return self._cable.up

    def leave(self) -> None:
        """Hang up, if that did not happen yet."""
        self._cable.hang_up()

    def receive(self, cable: Cable, text: str) -> None:
        """A message of the server."""
        message = codec.server_messages.decode(text)
        if isinstance(message, SessionInitAck):
            self._begin(message.session_id)
        elif (heard := self.heard.get(getattr(message, "session_id", None) or "")) is not None:
            self._hear(heard, message)

    def closed(self, cable: Cable) -> None:
        """The server ended the connection."""
        self._world.say(self.session_id, "its connection was closed")

    def _hear(self, heard: Heard, message: ServerMessage) -> None:
        match message:
            case TranslationResult(utterance_index=index, late=late):
                self._world.say(self.session_id, f"got {index}: {message.text_asr}{' late' * late}")
                heard.read |= speech.read(message.text_asr)
                heard.left(index, "", late=late)
            case MissingResult(utterance_index=index, reason=reason):
                self._world.say(self.session_id, f"got {index}: {reason}")
                heard.left(index, reason, late=False)
            case UiEvent(event="ERROR"):
                heard.failed.add(message.utterance_index)
            case AsrPartial():
                heard.read |= speech.read(message.text)

    def _hello(self) -> None:
        spec = self.spec
        languages = {"src_lang": spec.src, "tgt_lang": spec.tgt}
        if spec.two_way:
            languages |= {"src_lang": "auto", "lang_a": spec.src, "lang_b": spec.tgt, "mode": "two_way_auto"}
        features = FeatureFlags(**dict.fromkeys(spec.features, True))
        codes = self._server.codes
        self._send(
            SessionInit(
                client_version="sim",
                platform="web",
                trace_id="t-1",
                features=features,
                pairing_code=codes[-1] if spec.pairs and codes else None,
                **languages,
            )
        )

    def _begin(self, session_id: str) -> None:
        first = not self.heard
        self.session_id = session_id
        self.heard[session_id] = Heard()
        spec = self.spec
        self._world.say(session_id, f"{spec}")
        if first:
            self._world.after(self._world.between(0.0, 5.0), self._talk)

    def _send(self, message: ClientMessage) -> None:
        if self.faulty and self._world.chance(self.spec.garbles):
            self._cable.send(self._world.random.choice(NONSENSE))
        self._cable.send(codec.encode(message))

    def _speak(self, packets: int, silent: bool) -> list[bytes]:
        """So many packets of sound."""
        first, self._packet = self._packet, self._packet + packets
        self._now.spoken.update(dict.fromkeys(range(first, self._packet), silent))
        return [speech.packet(number, silent) for number in range(first, self._packet)]

    @property
    def _now(self) -> Heard:
        return self.heard[self.session_id]

    def _talk(self) -> None:
        if not self.connected:
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
                self._send(SessionClose(session_id=self.session_id, reason="client_disconnect"))
            case "drops":
                self._cable.hang_up()
            case "vanishes":
                self._cable.tear()
            case "begins anew":
                self._hello()

    def _doze(self) -> None:
        self._world.say(self.session_id, "reads nothing")
        self._cable.stop_reading(self._world.between(1.0, 90.0))

    # Streaming

    def _sentence(self) -> None:
        """A sentence in chunks of 256 ms; then a final in one of its ways, or just silence."""
        world = self._world
        chunks = max(1, round(world.between(0.2, self.spec.longest_s) / CHUNK_S))
        silent = world.chance(0.1)
        for number in range(chunks):
            world.after(number * CHUNK_S, self._chunk, silent)
        end = chunks * CHUNK_S
        match world.random.choice(["final", "final", "final with tail", "pause"]):
            case "final":
                world.after(end, self._final)
            case "final with tail":
                world.after(end, self._final)
                world.after(end + 0.003, self._chunk, silent)
            case _:
                end += 3.5
        world.after(end + world.between(0.2, 6.0), self._talk)

    def _chunk(self, silent: bool) -> None:
        if self.connected:
            self._say_chunk(speech.encode(self._speak(PACKETS_PER_CHUNK, silent)), final=False)

    def _final(self) -> None:
        self._say_chunk("", final=True)

    def _say_chunk(self, payload: str, *, final: bool) -> None:
        self._seq += 1
        self._send(AudioChunk(session_id=self.session_id, seq=self._seq, is_final=final, payload=payload))

    # Whole utterances

    def _utterances(self) -> None:
        """One or two utterances, sometimes swapped, sent twice, without sound, or with a number left out."""
        world = self._world
        self._index += 1 + world.chance(0.1)
        first = self._utterance(self._index)
        if self._sent_before and world.chance(0.2):
            self._index += 1
            self._send(self._utterance(self._index))
            self._now.out_of_turn.add(first.utterance_index)
            world.after(0.1, self._send, first)
        else:
            self._send(first)
        if world.chance(0.1):
            self._now.sent_again.add(first.utterance_index)
            world.after(world.random.choice([0.0, 0.0, 5.0, 20.0]), self._send, first)
        self._sent_before = True
        world.after(world.between(0.3, 5.0), self._talk)

    def _utterance(self, index: int) -> Utterance:
        world = self._world
        empty = world.chance(0.05)
        packets = (
            []
            if empty
            else self._speak(round(world.between(0.2, self.spec.longest_s) * 50), world.chance(0.1))
        )
        if empty:
            self._now.empty.append(index)
        tgt_lang = self.spec.tgt
        if self.spec.second_tgt and world.chance(0.3):
            tgt_lang = self._now.target[index] = self.spec.second_tgt
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
