"""Sessions that speak as web clients do, cheaply: one thread, bare sockets and epoll.

A session on trio costs its process as much as it costs the server; with these the server has a core to itself
on a machine of two. Frames are masked with zeros, which a server unmasks at the price of any other mask.

A talking session sends what a microphone gives: a chunk of 256 ms every 256 ms, at a sentence's end the empty
final after its last chunk, and the next sentence without a pause. All sessions send heartbeats. Nothing waits
for an answer, as people do not.
"""

from __future__ import annotations

import heapq
import itertools
import select
import socket
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from random import Random

import msgspec

from linguad.net import dial
from linguad.wire import codec, opus
from linguad.wire.session import AudioChunk, ClientHeartbeat, SessionClose, SessionInit, SessionInitAck

CHUNK_NS = 256_000_000
PAYLOAD = b64encode(opus.join([bytes(56)] * 13)).decode()
"""Base64 of 256 ms of speech at 24 kbit/s, as a browser packs it."""
SENTENCE_CHUNKS = (8, 23)
"""Shortest and longest sentence: 2 to 6 s, 4 s on average."""
HEARTBEAT_NS = 30_000_000_000
CONNECT_S = 30.0
RECEIVE_BYTES = 256 * 1024
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


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


Step = Callable[[int], int]
"""What is done at a time (ns), and when it is to be done again."""


class Talkers:
    """All sessions of this process at one server, and the time they share."""

    def __init__(self, url: str, *, init: bool = True) -> None:
        """Without `init` a session is a bare connection that names itself, for bench/parts/relay.py."""
        self.record = Record()
        self._url = url
        self._init = init
        self._chance = Random(1)
        self._length = SENTENCE_CHUNKS
        self._sessions: dict[int, Session] = {}
        self._due: list[tuple[int, int, Step]] = []
        self._serial = itertools.count()
        self._poll = select.epoll()

    def open(self, count: int) -> None:
        """Connect so many sessions more."""
        for _ in range(count):
            session = Session(self, self._url, len(self._sessions), init=self._init)
            self._sessions[session.fileno()] = session
            self._poll.register(session.fileno(), select.EPOLLIN)
            if self._init:
                self.at(time.monotonic_ns() + self._chance.randrange(HEARTBEAT_NS), session.beat)

    def talk(self, count: int, sentence: tuple[int, int] = SENTENCE_CHUNKS) -> None:
        """Have so many of the sessions talk from now on, each somewhere in its first sentence.

        A sentence has so many chunks at least and at most, two or more: shorter ones are none to the server.
        """
        self._length = sentence
        now = time.monotonic_ns()
        for session in list(self._sessions.values())[:count]:
            session.chunks_left = self._chance.randint(2, sentence[1])
            self.at(now + self._chance.randrange(CHUNK_NS), session.speak)

    @contextmanager
    def recording(self) -> Iterator[Record]:
        """Record the sentences that end in the block; their answers also after it."""
        self.record = record = Record()
        yield record
        record.ended = time.monotonic_ns()

    def run(self, seconds: float) -> None:
        """Talk and listen for so long."""
        until = time.monotonic_ns() + round(seconds * 1e9)
        while (now := time.monotonic_ns()) < until:
            while self._due and self._due[0][0] <= now:
                due, _, step = heapq.heappop(self._due)
                self.at(step(due), step)
            next_due = min(self._due[0][0], until) if self._due else until
            for fd, _ in self._poll.poll(max(0, next_due - time.monotonic_ns()) / 1e9):
                self._sessions[fd].listen()

    def close(self) -> None:
        """End all sessions."""
        for session in self._sessions.values():
            session.close(said=self._init)
        self._poll.close()

    def at(self, due: int, step: Step) -> None:
        """Have something done at a time (ns)."""
        heapq.heappush(self._due, (due, next(self._serial), step))

    def sentence(self) -> int:
        """Length of the next sentence, chunks."""
        return self._chance.randint(*self._length)


class Session:
    """One connection and what was said on it."""

    __slots__ = ("_all", "_buffer", "_id", "_index", "_seq", "_socket", "chunks_left", "open")

    def __init__(self, talkers: Talkers, url: str, number: int, *, init: bool) -> None:
        self.open: dict[int, int] = {}
        """When the finals of unanswered sentences were sent, by index."""
        self.chunks_left = 0
        self._all = talkers
        self._index = 0
        self._seq = 0
        self._id = f"s-{number:024}"
        self._buffer, self._socket = _connect(url)
        if init:
            message = SessionInit(client_version="bench", platform="web", src_lang="en", tgt_lang="es")
            self._socket.send(_frame(TEXT, codec.encode(message).encode()))
            self._socket.settimeout(CONNECT_S)
            while not (frames := list(self._frames())):
                self._receive()
            ack = codec.server_messages.decode(frames[0][1].decode())
            assert isinstance(ack, SessionInitAck), ack
            self._id = ack.session_id
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Of the socket."""
        return self._socket.fileno()

    def close(self, *, said: bool) -> None:
        """Drop the connection; what was not said to its end is only dropped with it if that is said."""
        if said:
            self._send(TEXT, codec.encode(SessionClose(session_id=self._id, reason="user")))
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

    def beat(self, due: int) -> int:
        """Say that the client is there."""
        self._send(TEXT, codec.encode(ClientHeartbeat(session_id=self._id, timestamp=due // 1_000_000)))
        return due + HEARTBEAT_NS

    def listen(self) -> None:
        """Take what has come."""
        self._receive()
        now = time.monotonic_ns()
        for kind, payload in self._frames():
            if kind == TEXT:
                self._hear(payload, now)
            elif kind == PING:
                self._send(PONG, payload.decode("latin-1"))
            elif kind == CLOSE:
                code, reason = int.from_bytes(payload[:2], "big"), payload[2:].decode()
                raise SystemExit(f"the server closed a session: {code} {reason}")

    def _hear(self, text: bytes, now: int) -> None:
        if text.startswith((b'{"type":"ui_event"', b'{"type":"server_heartbeat"')) and b"ERROR" not in text:
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
        chunk = AudioChunk(session_id=self._id, seq=self._seq, is_final=not payload, payload=payload)
        self._send(TEXT, codec.encode(chunk))

    def _send(self, kind: int, text: str) -> None:
        frame = _frame(kind, text.encode("latin-1"))
        try:
            sent = self._socket.send(frame)
        except BlockingIOError:
            sent = 0
        if sent < len(frame):
            # The kernel holds minutes of speech; there is no use in a queue of our own before that.
            raise SystemExit("the server has not read for too long")

    def _receive(self) -> None:
        data = self._socket.recv(RECEIVE_BYTES)
        if not data:
            raise SystemExit("the server dropped a session")
        self._buffer += data

    def _frames(self) -> list[tuple[int, bytes]]:
        """The whole frames in the buffer: kind and payload; servers neither mask nor split them."""
        frames, buffer, start = [], self._buffer, 0
        while len(buffer) - start >= 2:
            size, head = buffer[start + 1], start + 2
            if size >= 126:
                head += 2 if size == 126 else 8
                size = int.from_bytes(buffer[start + 2 : head], "big")
            if len(buffer) < head + size:
                break
            frames.append((buffer[start] & 15, bytes(buffer[head : head + size])))
            start = head + size
        del buffer[:start]
        return frames


_heard = msgspec.json.Decoder(Heard)


def _connect(url: str) -> tuple[bytearray, socket.socket]:
    """What came after the answer to the upgrade, and the socket."""
    target = dial.parse(url)
    sock = socket.create_connection((target.host, target.port), CONNECT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.send(
        f"GET {target.resource} HTTP/1.1\r\nHost: {target.authority}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    answer = bytearray()
    while b"\r\n\r\n" not in answer:
        data = sock.recv(RECEIVE_BYTES)
        answer += data
        if not data or not answer.startswith(b"HTTP/1.1 101"[: len(answer)]):
            raise SystemExit(f"{url} is no WebSocket: {bytes(answer[:200])!r}")
    return answer.partition(b"\r\n\r\n")[2], sock


def _frame(kind: int, payload: bytes) -> bytes:
    """A client's frame with a mask of zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([0x80 | kind]) + length + bytes(4) + payload
