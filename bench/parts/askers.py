"""Clients that ask again as soon as they have their answer: over HTTP, `/v1/stream` and `/ws/session`.

All are on bare sockets and on one loop, so that they cost the server's machine little. What they say is the
same sound; `Taken` is what came of a round.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from bench import report
from bench.parts import processes
from bench.parts.bare import Loop, Socket
from bench.parts.bare_http import HttpClient
from linguad.wire import codec, public
from linguad.wire.session import AudioChunk, SessionInit, SessionInitAck, Utterance

RATE = 16_000
SPEECH = Random(3).randbytes(RATE * 2)
"""A second of PCM16 at 16 kHz."""
SPOKEN = b64encode(SPEECH).decode()
PIECES = 4
PIECE_BYTES = len(SPEECH) // PIECES
PAYLOADS = [b64encode(SPEECH[at : at + PIECE_BYTES]).decode() for at in range(0, len(SPEECH), PIECE_BYTES)]
"""The same second in pieces of 250 ms."""
SRC, TGT = "en", "es"
ANSWER_S = 30.0
"""An answer that does not come ends the bench."""
NEWS = (b'{"type":"ui_event"', b'{"type":"partial"', b'{"type":"event"')
"""Messages that are no answer."""


@dataclass
class Taken:
    """What a round of clients had: latencies (ms), wall time and the server's CPU time (s)."""

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_s: float = 0.0
    over: bool = False
    """Whether nothing more is asked."""

    def numbers(self) -> dict[str, float]:
        """Of this round, by names that end in their unit."""
        ordered = sorted(self.latencies)
        if not ordered:
            raise SystemExit("nobody had an answer")
        return {
            "p50_ms": report.percentile(ordered, 50),
            "p99_ms": report.percentile(ordered, 99),
            "per_s": len(ordered) / self.seconds,
            "cpu_us": self.cpu_s / len(ordered) * 1e6,
        }


class Asker(ABC):
    """One client. Mutable: what it notes its answers in, and whether one is open."""

    def __init__(self) -> None:
        self.busy = False
        self._taken = Taken(over=True)

    @abstractmethod
    def ask(self) -> None:
        """Send a request."""

    @abstractmethod
    def fileno(self) -> int:
        """Of the socket."""

    @abstractmethod
    def listen(self) -> None:
        """Take what has come."""

    @abstractmethod
    def close(self) -> None:
        """Drop the connection."""

    def answered(self, sent_at: int) -> None:
        """The answer to what was sent then (ns) is here."""
        self.busy = False
        self._taken.latencies.append((time.monotonic_ns() - sent_at) / 1e6)
        if not self._taken.over:
            self.begin(self._taken)

    def begin(self, taken: Taken) -> None:
        """Ask, and again at every answer until that is over."""
        self._taken = taken
        self.busy = True
        self.ask()


class HttpAsker(Asker):
    """Asks the same over HTTP; only one status is an answer."""

    def __init__(self, port: int, request: bytes, status: int = 200) -> None:
        super().__init__()
        self._request = request
        self._status = status
        self._client = HttpClient(port, self._take)

    def fileno(self) -> int:
        """Of the socket."""
        return self._client.fileno()

    def close(self) -> None:
        """Drop the connection."""
        self._client.close()

    def ask(self) -> None:
        """Send the request."""
        self._client.send(self._request)

    def listen(self) -> None:
        """Take what has come."""
        self._client.listen()

    def _take(self, status: int, sent_at: int, body: bytes) -> None:
        if status != self._status:
            raise SystemExit(f"a request was answered with {status}")
        self.answered(sent_at)


class SocketAsker(Asker):
    """Says an utterance, whole or in pieces, and waits for its result; timed from the last message on."""

    result: bytes
    """How the message begins that is the answer."""

    def __init__(self, socket: Socket, *, pieces: bool) -> None:
        super().__init__()
        self.socket = socket
        self._pieces = pieces
        self._sent_at = 0

    def fileno(self) -> int:
        """Of the socket."""
        return self.socket.fileno()

    def close(self) -> None:
        """Drop the connection."""
        self.socket.close()

    def ask(self) -> None:
        """Say it."""
        *first, last = self.in_pieces() if self._pieces else [self.whole()]
        for text in first:
            self.socket.send(text)
        self._sent_at = time.monotonic_ns()
        self.socket.send(last)

    def listen(self) -> None:
        """Take what has come."""
        for text in self.socket.messages():
            if text.startswith(self.result):
                self.answered(self._sent_at)
            elif not text.startswith(NEWS) or b'"error"' in text[:200]:
                raise SystemExit(f"unexpected answer: {text[:300]!r}")

    @abstractmethod
    def whole(self) -> str:
        """The message of an utterance."""

    @abstractmethod
    def in_pieces(self) -> list[str]:
        """Its messages, if it is said in pieces."""


class NativeAsker(SocketAsker):
    """A session of the core."""

    result = b'{"type":"translation_result"'

    def __init__(self, url: str, *, pieces: bool = False) -> None:
        super().__init__(Socket(f"{url}/ws/session"), pieces=pieces)
        init = SessionInit(
            client_version="bench",
            platform="web",
            audio_format="pcm16",
            sample_rate=RATE,
            src_lang=SRC,
            tgt_lang=TGT,
        )
        ack = codec.server_messages.decode(self.socket.ask(codec.encode(init)).decode())
        assert isinstance(ack, SessionInitAck), ack
        self._id = ack.session_id
        self._index = self._seq = -1

    def whole(self) -> str:
        """The message of an utterance."""
        self._index += 1
        message = Utterance(
            session_id=self._id,
            utterance_index=self._index,
            manual_cut=True,
            audio=SPOKEN,
            audio_format="pcm16",
            sample_rate=RATE,
            src_lang=SRC,
            tgt_lang=TGT,
        )
        return codec.encode(message)

    def in_pieces(self) -> list[str]:
        """The messages of an utterance in pieces."""
        messages = []
        for number, payload in enumerate(PAYLOADS, 1):
            self._seq += 1
            final = number == PIECES
            messages.append(AudioChunk(session_id=self._id, seq=self._seq, is_final=final, payload=payload))
        return [codec.encode(message) for message in messages]


class StreamAsker(SocketAsker):
    """A session of the public API."""

    result = b'{"type":"final"'

    def __init__(self, port: int, key: str, *, pieces: bool = False) -> None:
        super().__init__(open_stream(port, key, pieces=pieces), pieces=pieces)

    def whole(self) -> str:
        """The message of an utterance."""
        return codec.encode(public.Audio(chunk=SPOKEN))

    def in_pieces(self) -> list[str]:
        """The messages of an utterance in pieces."""
        return [
            codec.encode(public.Audio(chunk=payload, is_final=number == PIECES))
            for number, payload in enumerate(PAYLOADS, 1)
        ]


class Silent:
    """A session of the public API that says nothing; pings of the server are answered."""

    def __init__(self, port: int, key: str) -> None:
        self._socket = open_stream(port, key)

    def fileno(self) -> int:
        """Of the socket."""
        return self._socket.fileno()

    def listen(self) -> None:
        """Take what has come."""
        self._socket.messages()


def open_stream(port: int, key: str, *, pieces: bool = False) -> Socket:
    """A socket of `/v1/stream` with a session; with `pieces` the server cuts."""
    bearer = f"Authorization: Bearer {key}\r\n"
    socket = Socket(f"ws://127.0.0.1:{port}/v1/stream", headers=bearer)
    start = public.Start(
        segmentation="stream" if pieces else "utterance", partials=False, src_lang=SRC, tgt_lang=TGT
    )
    answer = socket.ask(codec.encode(start))
    if not answer.startswith(b'{"type":"started"'):
        raise SystemExit(f"no session: {answer[:300]!r}")
    return socket


def play(loop: Loop, askers: Sequence[Asker], seconds: float, pid: int) -> Taken:
    """Let clients ask for so long, and wait for their last answers; `pid` is the server's."""
    taken, before, began = Taken(), processes.cpu_s(pid), time.monotonic()
    for asker in askers:
        asker.begin(taken)
    loop.run(seconds)
    taken.over = True
    until = time.monotonic() + ANSWER_S
    while any(asker.busy for asker in askers):
        loop.run(0.002)
        if time.monotonic() > until:
            raise SystemExit("an answer did not come")
    taken.seconds, taken.cpu_s = time.monotonic() - began, processes.cpu_s(pid) - before
    return taken
