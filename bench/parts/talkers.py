"""Sessions that speak as web clients do, cheaply, on bare sockets.

A session on trio costs its process as much as it costs the server; with these the server has a core to itself
on a machine of two.

A talking session sends what a microphone gives: a chunk of 256 ms every 256 ms, at a sentence's end the empty
final after its last chunk, and the next sentence without a pause. Or sessions send whole utterances, in turn.
All send heartbeats. Nothing waits for an answer, as people do not.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from random import Random

import msgspec

from bench.parts.bare import Loop, Socket
from linguad.wire import codec, opus
from linguad.wire.session import (
    AudioChunk,
    ClientHeartbeat,
    SessionClose,
    SessionInit,
    SessionInitAck,
    Utterance,
)

CHUNK_NS = 256_000_000
PAYLOAD = b64encode(opus.join([bytes(56)] * 13)).decode()
"""Base64 of 256 ms of speech at 24 kbit/s, as a browser packs it."""
SENTENCE_CHUNKS = (8, 23)
"""Shortest and longest sentence: 2 to 6 s, 4 s on average."""
HEARTBEAT_NS = 30_000_000_000


class Breakdown(msgspec.Struct):
    """What is read of `time_breakdown`, ms."""

    queue_ms: float = 0.0
    reorder_ms: float = 0.0


class Heard(msgspec.Struct):
    """What is read of a message."""

    type: str
    utterance_index: int = -1
    event: str = ""
    reason: str = ""
    text_asr: str = ""
    time_breakdown: Breakdown | None = None


@dataclass(frozen=True)
class Answer:
    """A sentence that was answered; times in ns on the monotonic clock."""

    session_id: str
    index: int
    final_at: int
    """When its final was sent."""
    node_at: int
    """When the node had it."""
    heard_at: int
    """When its result was here."""
    breakdown: Breakdown | None


@dataclass
class Record:
    """What all sessions did and heard of the sentences between its begin and its end."""

    sentences: int = 0
    answers: list[Answer] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    """Problems of single utterances, by name."""
    late_ns: list[int] = field(default_factory=list)
    """By how much chunks left later than they were due."""
    began: int = field(default_factory=time.monotonic_ns)
    ended: float = inf

    def covers(self, at: int) -> bool:
        """Whether a time (ns) is between them."""
        return self.began <= at <= self.ended


class Talkers:
    """All sessions of this process at one server."""

    def __init__(self, url: str, *, init: bool = True, loop: Loop | None = None) -> None:
        """Without `init` a session is a bare connection that names itself, for bench/parts/relay.py."""
        self.record = Record()
        self.beats = self.beats_answered = 0
        self.loop = loop or Loop()
        self._url = url
        self._init = init
        self._chance = Random(1)
        self._length = SENTENCE_CHUNKS
        self._sessions: list[Session] = []
        self._audio = ""
        self._per_s = 0.0
        self._next = 0

    def open(self, count: int) -> None:
        """Connect so many sessions more."""
        for _ in range(count):
            session = Session(self, self._url, len(self._sessions), init=self._init)
            self._sessions.append(session)
            self.loop.add(session)
            if self._init:
                self.loop.at(time.monotonic_ns() + self._chance.randrange(HEARTBEAT_NS), session.beat)

    def talk(self, count: int, sentence: tuple[int, int] = SENTENCE_CHUNKS) -> None:
        """Have so many of the sessions talk from now on, each somewhere in its first sentence.

        A sentence has so many chunks at least and at most, two or more: shorter ones are none to the server.
        """
        self._length = sentence
        now = time.monotonic_ns()
        for session in self._sessions[:count]:
            session.chunks_left = self._chance.randint(2, sentence[1])
            self.loop.at(now + self._chance.randrange(CHUNK_NS), session.speak)

    def utter(self, per_s: float, audio: str = "") -> None:
        """Have the sessions, in turn, send whole utterances from now on, so many a second at random times."""
        begin = not self._per_s
        self._audio, self._per_s = audio, per_s
        if begin:
            self.loop.at(time.monotonic_ns(), self._utter)

    def say(self, count: int, audio: str, due: int | None = None) -> None:
        """Have the sessions, in turn, send so many whole utterances now, which were due then."""
        for _ in range(count):
            self._next = (self._next + 1) % len(self._sessions)
            self._sessions[self._next].utter(due or time.monotonic_ns(), audio)

    def _utter(self, due: int) -> int | None:
        if not self._per_s:
            return None
        self.say(1, self._audio, due)
        return due + round(self._chance.expovariate(self._per_s) * 1e9)

    @contextmanager
    def recording(self) -> Iterator[Record]:
        """Record the sentences that end in the block; their answers also after it."""
        self.record = record = Record()
        yield record
        record.ended = time.monotonic_ns()

    @property
    def anyone(self) -> Session:
        """The first session."""
        return self._sessions[0]

    def run(self, seconds: float) -> None:
        """Talk and listen for so long."""
        self.loop.run(seconds)

    def close(self) -> None:
        """End all sessions."""
        for session in self._sessions:
            session.close(said=self._init)
        self.loop.close()

    def sentence(self) -> int:
        """Length of the next sentence, chunks."""
        return self._chance.randint(*self._length)


class Session:
    """One connection and what was said on it."""

    __slots__ = ("_all", "_id", "_index", "_seq", "_socket", "chunks_left", "open")

    def __init__(self, talkers: Talkers, url: str, number: int, *, init: bool) -> None:
        self.open: dict[int, int] = {}
        """When the finals of unanswered sentences were sent, by index."""
        self.chunks_left = 0
        self._all = talkers
        self._index = 0
        self._seq = 0
        self._id = f"s-{number:024}"
        self._socket = Socket(url)
        if init:
            message = SessionInit(client_version="bench", platform="web", src_lang="en", tgt_lang="es")
            ack = codec.server_messages.decode(self._socket.ask(codec.encode(message)).decode())
            assert isinstance(ack, SessionInitAck), ack
            self._id = ack.session_id

    def fileno(self) -> int:
        """Of the socket."""
        return self._socket.fileno()

    def close(self, *, said: bool) -> None:
        """Drop the connection; what was not said to its end is only dropped with it if that is said."""
        if said:
            self._socket.send(codec.encode(SessionClose(session_id=self._id, reason="user")))
        self._socket.close()

    def speak(self, due: int) -> int:
        """Send the next chunk, and the final if the sentence ends with it."""
        record = self._all.record
        self._chunk(PAYLOAD)
        now = time.monotonic_ns()
        if record.covers(now):
            record.late_ns.append(now - due)
        self.chunks_left -= 1
        if self.chunks_left <= 0:
            self.open[self._index] = now = time.monotonic_ns()
            self._index += 1
            self._chunk("")
            record.sentences += record.covers(now)
            self.chunks_left = self._all.sentence()
        return due + CHUNK_NS

    def utter(self, due: int, audio: str) -> None:
        """Send a whole utterance."""
        text, record = self.utterance(audio), self._all.record
        self.open[self._index] = now = time.monotonic_ns()
        self._index += 1
        self._socket.send(text)
        if record.covers(now):
            record.sentences += 1
            record.late_ns.append(now - due)

    def utterance(self, audio: str) -> str:
        """The message of a whole utterance."""
        return codec.encode(
            Utterance(
                session_id=self._id,
                utterance_index=self._index,
                manual_cut=True,
                src_lang="en",
                tgt_lang="es",
                audio=audio,
                audio_format="opus",
                sample_rate=16000,
            )
        )

    def chunk(self, payload: str) -> str:
        """The message of a chunk."""
        message = AudioChunk(session_id=self._id, seq=self._seq, is_final=not payload, payload=payload)
        return codec.encode(message)

    def beat(self, due: int) -> int:
        """Say that the client is there."""
        self._socket.send(codec.encode(ClientHeartbeat(session_id=self._id, timestamp=due // 1_000_000)))
        self._all.beats += 1
        return due + HEARTBEAT_NS

    def listen(self) -> None:
        """Take what has come."""
        for text in self._socket.messages():
            self._hear(text, self._socket.arrived)

    def _hear(self, text: bytes, now: int) -> None:
        if text.startswith(b'{"type":"server_heartbeat"'):
            self._all.beats_answered += 1
            return
        if text.startswith(b'{"type":"ui_event"') and b"ERROR" not in text:
            return
        heard, record = _heard.decode(text), self._all.record
        if heard.type == "translation_result":
            final_at = self.open.pop(heard.utterance_index, 0)
            if record.covers(final_at):
                index, node_at = heard.utterance_index, int(heard.text_asr)
                record.answers.append(Answer(self._id, index, final_at, node_at, now, heard.time_breakdown))
        elif heard.type == "missing_result":
            record.others[heard.reason] += 1
            self.open.pop(heard.utterance_index, None)
        elif heard.type == "ui_event":
            record.others[heard.event] += 1
        else:
            raise SystemExit(f"unexpected answer: {text[:200]!r}")

    def _chunk(self, payload: str) -> None:
        self._seq += 1
        self._socket.send(self.chunk(payload))


_heard = msgspec.json.Decoder(Heard)
