"""A session as its application has it: speech goes in, events come out."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import trio

from linguad import __version__
from linguad.client.chunks import CHUNK_BYTES, AudioFormat, encode_chunks, split
from linguad.client.connection import epoch_ms
from linguad.client.errors import ClientError
from linguad.client.ledger import Chunk
from linguad.client.lifeline import Event, Lifeline
from linguad.errors import AudioError
from linguad.net import dial
from linguad.wire.common import FeatureFlags
from linguad.wire.session import ClientHeartbeat, ClientMessage, Resume, SessionInit, SessionUpdate

PLATFORM = "python"
"""Not `web`: servers take that for a browser, which plays nothing but PCM16 in rooms."""


class Session:
    """One open session; made by `open_session`.

    One task may send while another reads `events`. When the session ends in an unwanted way, the method that
    meets it, all later ones and `events` raise the same ClientError. Where the session can be resumed, a lost
    connection does not end it: audio, whole utterances and changes of languages are kept and sent later, all
    other messages wait for the next connection. What is cancelled may be sent nevertheless.
    """

    def __init__(self, line: Lifeline, upload: AudioFormat) -> None:
        self._line = line
        self._upload = upload
        self._rest = bytearray()
        self._seq = 0
        self._open_utterance = False

    @property
    def session_id(self) -> str:
        """Its id; another one after `Reconnected` without `recovered`."""
        return self._line.session_id

    @property
    def trace_id(self) -> str:
        """Names the session in logs and traces."""
        return self._line.trace_id

    @property
    def assigned_node_id(self) -> str | None:
        """The node it is paired with."""
        return self._line.assigned_node_id

    async def send_audio(self, samples: bytes, audio_format: AudioFormat = "pcm16") -> None:
        """Send some speech of the running utterance.

        `pcm16` (16 kHz, mono, little-endian, any length) is cut into chunks and encoded, what does not fill a
        chunk waits for more; `opus` (Plan A records) is sent as one chunk, as it is. Waits while the server
        wants a pause, and without a connection when too much is kept. If it is cancelled, all of the samples
        were taken or none. Raises AudioError if samples are not whole or formats are mixed, and ClientError.
        """
        if audio_format == "opus" and self._rest:
            raise AudioError("Opus packets cannot follow PCM16 within one utterance")
        if audio_format == "pcm16" and len(samples) % 2:
            raise AudioError("PCM16 audio is a whole number of 16-bit samples; these bytes are odd in number")
        await self._line.room()
        if audio_format == "opus":
            await self._speak([samples])
            return
        samples = bytes(self._rest) + samples
        whole = len(samples) // CHUNK_BYTES * CHUNK_BYTES
        payloads = await self._payloads(samples[:whole])
        self._rest[:] = samples[whole:]
        await self._speak(payloads)

    async def finish_utterance(self) -> None:
        """Say that the utterance is complete; without audio since the last time there is nothing to say.

        Raises ClientError.
        """
        await self._line.room()
        payloads = await self._payloads(bytes(self._rest))
        self._rest.clear()
        await self._speak(payloads, complete=True)

    async def update(
        self,
        *,
        src: str | None = None,
        tgt: str | None = None,
        two_way: bool = False,
        dialect: str | None = None,
        features: FeatureFlags | None = None,
    ) -> None:
        """Other languages from the next utterance on; the server says `SessionUpdateAck`.

        `src` or `tgt` alone ends two-way mode; with `two_way` they are the pair. Raises ClientError.
        """
        update = SessionUpdate(
            session_id=self.session_id,
            src_lang=None if two_way else src,
            tgt_lang=tgt,
            dialect=dialect,
            features=features,
            lang_a=src if two_way else None,
            lang_b=tgt if two_way else None,
        )
        await self.send(update)

    async def heartbeat(self) -> None:
        """Ask for a `ServerHeartbeat` event; it comes after everything the server sent before it got this.

        The session sends heartbeats by itself as well. Raises ClientError.
        """
        await self.send(ClientHeartbeat(session_id=self.session_id, timestamp=epoch_ms()))

    async def send(self, message: ClientMessage) -> None:
        """Send any message of the session protocol, for example a whole `Utterance` or a `RoomJoin`.

        If it names a session that this one was before, it goes to the one there is now. Raises ClientError.
        """
        self._line.check()
        await self._line.sent(self._line.add(message))

    async def receive(self) -> Event:
        """The next message of the server after the first, or `Reconnected`; cancelled, it loses none.

        Raises ClientError when the session has ended, after the messages that came before.
        """
        return await self._line.receive()

    def events(self) -> AsyncIterator[Event]:
        """Everything that `receive` gives, until `close`. Raises ClientError if the session ends before."""
        return Events(self._line)

    async def close(self, reason: str = "client_disconnect") -> bool:
        """End the session and close the connection; true if the server acknowledged it in time.

        Events that were not read are dropped. Called by itself at the end of `open_session`.
        """
        return await self._line.close(reason)

    async def _payloads(self, samples: bytes) -> list[bytes]:
        if not samples or self._upload == "pcm16":
            return split(samples)
        return await trio.to_thread.run_sync(encode_chunks, samples)

    async def _speak(self, payloads: list[bytes], *, complete: bool = False) -> None:
        """Chunks, and the final if the utterance is complete: all of them are taken, then waited for."""
        entry = None
        for payload in payloads:
            entry = self._line.add(Chunk(self._seq, payload, False, epoch_ms()))
            self._seq += 1
            self._open_utterance = True
        if complete and self._open_utterance:
            entry = self._line.add(Chunk(self._seq, b"", True, epoch_ms()))
            # One number is left out: the next chunk would be taken for a late tail (session-protocol 3.5).
            self._seq += 2
            self._open_utterance = False
        if entry is not None:
            await self._line.sent(entry)


class Events:
    """Iterates over what `receive` gives; no generator, so that a loop may be left at any time."""

    def __init__(self, line: Lifeline) -> None:
        self._line = line

    def __aiter__(self) -> Events:
        """Itself."""
        return self

    async def __anext__(self) -> Event:
        """The next event. Raises ClientError."""
        try:
            return await self._line.receive()
        except ClientError:
            if self._line.closing:
                raise StopAsyncIteration from None
            raise


@asynccontextmanager
async def open_session(
    url: str,
    src: str,
    tgt: str,
    *,
    two_way: bool = False,
    upload: AudioFormat = "opus",
    platform: str = PLATFORM,
    client_version: str = f"linguad-python/{__version__}",
    locale: str | None = None,
    dialect: str | None = None,
    features: FeatureFlags | None = None,
    pairing_code: str | None = None,
    tenant_id: str | None = None,
    trace_id: str | None = None,
    resume: bool = True,
    give_up_s: float | None = None,
) -> AsyncGenerator[Session]:
    """Open a session for speech in `src` that is to be heard in `tgt` (language codes, `src` may be `auto`).

    With `two_way` people speak either of the two languages and hear the other. `upload` is how PCM16 travels.
    With `resume`, and a server that can, the session outlives its connections; one that is lost is tried
    again for `give_up_s` seconds (by default as long as the server keeps the session, and 30 s more).
    Raises ConnectError, RefusedError, SilentError or ClosedError (session-protocol 1.3, 1.4).
    """
    init = SessionInit(
        client_version=client_version,
        platform=platform,
        src_lang="auto" if two_way else src,
        tgt_lang=tgt,
        mode="two_way_auto" if two_way else "one_way",
        lang_a=src if two_way else None,
        lang_b=tgt if two_way else None,
        auto_langs=[src, tgt] if two_way else None,
        dialect=dialect,
        features=features or FeatureFlags(),
        pairing_code=pairing_code,
        tenant_id=tenant_id,
        trace_id=trace_id or str(uuid.uuid4()),
        locale=locale,
        resume=Resume() if resume else None,
        use_binary_frame=True if resume else None,
    )
    line = Lifeline(url, init, give_up_s)
    session = Session(line, upload)
    with dial.ungrouped():
        async with trio.open_nursery() as nursery:
            await nursery.start(line.run)
            try:
                yield session
            except Exception:
                await session.close()
                raise
            await session.close()
            nursery.cancel_scope.cancel()
