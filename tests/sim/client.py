"""Clients: some stream chunks as web clients do, some send whole utterances (session-protocol 1.9)."""

from __future__ import annotations

from dataclasses import dataclass, field

from linguad.wire import codec
from linguad.wire.session import (
    AsrPartial,
    AudioChunk,
    ClientMessage,
    MissingResult,
    ServerMessage,
    SessionClose,
    SessionInit,
    TranslationResult,
    UiEvent,
    Utterance,
)

from . import speech
from .server import Server
from .world import Wire, World

CHUNK_S = 0.256
PACKETS_PER_CHUNK = 13


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
    """`stays`, `closes` or `drops` its socket when it has talked."""


@dataclass
class Left:
    """What a client got for one index, in the order of arrival: a text, or the reason why there is none."""

    index: int
    text: str = ""
    reason: str = ""
    late: bool = False


@dataclass
class Account:
    """All that was spoken and all that came back."""

    spoken: dict[int, bool] = field(default_factory=dict)
    """Packet number to whether it is silence."""
    left: list[Left] = field(default_factory=list)
    partial: set[int] = field(default_factory=set)
    """Packets read in partial texts."""
    failed: set[int] = field(default_factory=set)
    """Indexes whose failure was told, be it after the client was told to go on without them."""
    empty: list[int] = field(default_factory=list)
    """Indexes of utterances that were sent without sound."""


class SimClient:
    """One client from hello to its end."""

    def __init__(self, world: World, server: Server, spec: ClientSpec) -> None:
        self.account = Account()
        self.spec = spec
        self._world = world
        self._server = server
        self._up = Wire(world)
        self._seq = world.random.randrange(1000)
        self._packet = 0
        self._index = world.random.choice([0, 0, 17])
        self._sent_before = False
        self._quiet_at = world.now + spec.talks_s
        languages = {"src_lang": spec.src, "tgt_lang": spec.tgt}
        if spec.two_way:
            languages |= {"src_lang": "auto", "lang_a": spec.src, "lang_b": spec.tgt, "mode": "two_way_auto"}
        init = SessionInit(client_version="sim", platform="web", trace_id="t-1", **languages)
        self.session_id = server.open_session(self, init)
        world.say(self.session_id, f"{spec.src} to {spec.tgt}, {'stream' if spec.streams else 'utterances'}")
        world.after(world.between(0.0, 5.0), self._talk)

    def receive(self, message: ServerMessage) -> None:
        """A message of the server."""
        match message:
            case TranslationResult():
                self.account.left.append(
                    Left(message.utterance_index, text=message.text_asr, late=message.late)
                )
                self._world.say(
                    self.session_id,
                    f"got {message.utterance_index}: {message.text_asr}{' late' * message.late}",
                )
            case MissingResult():
                self.account.left.append(Left(message.utterance_index, reason=message.reason))
                self._world.say(self.session_id, f"got {message.utterance_index}: {message.reason}")
            case UiEvent(event="ERROR"):
                self.account.failed.add(message.utterance_index)
            case AsrPartial():
                self.account.partial |= speech.read(message.text)

    def _send(self, message: ClientMessage) -> None:
        self._up.carry(self._server.client_frame, self.session_id, codec.encode(message))

    def _speak(self, packets: int, silent: bool) -> list[bytes]:
        """So many packets of sound."""
        first, self._packet = self._packet, self._packet + packets
        self.account.spoken.update(dict.fromkeys(range(first, self._packet), silent))
        return [speech.packet(number, silent) for number in range(first, self._packet)]

    def _talk(self) -> None:
        if self._world.now >= self._quiet_at:
            self._world.after(2.0, self._end)
        elif self.spec.streams:
            self._sentence()
        else:
            self._utterances()

    def _end(self) -> None:
        if self.spec.ending == "closes":
            self._send(SessionClose(session_id=self.session_id, reason="client_disconnect"))
        elif self.spec.ending == "drops":
            self._server.client_lost(self.session_id)

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
            world.after(0.1, self._send, first)
        else:
            self._send(first)
        if world.chance(0.1):
            self._send(first)
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
            self.account.empty.append(index)
        return Utterance(
            session_id=self.session_id,
            utterance_index=index,
            manual_cut=True,
            src_lang="auto" if self.spec.two_way else self.spec.src,
            tgt_lang=self.spec.tgt,
            audio=speech.encode(packets),
            audio_format="opus",
            sample_rate=16000,
        )
