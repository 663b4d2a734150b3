"""Client of `/ws/session`: speech goes up, translations come down, over whatever connections it takes.

    async with open_session("ws://127.0.0.1:5010/ws/session", "en", "es") as session:
        await session.send_audio(pcm16)
        await session.finish_utterance()
        async for event in session.events():
            if isinstance(event, TranslationResult):
                print(event.text_translated)
                break

On the wire it is a web client: 256 ms chunks of Opus packets, an empty final, heartbeats. Where the server
can, audio travels in binary frames and a lost connection is made again (docs/sessions.md).

    session      what an application uses
    lifeline     connection after connection, reading and writing
    ledger       what is to be sent, and what is kept to be sent again
    connection   one connection
    backoff      when to try again
    chunks       cutting and encoding
"""

from __future__ import annotations

from linguad.client.chunks import CHUNK_SAMPLES, AudioFormat, encode_chunks
from linguad.client.errors import (
    ClientError,
    ClosedError,
    ConnectError,
    GaveUpError,
    RefusedError,
    SilentError,
)
from linguad.client.lifeline import Event, Reconnected
from linguad.client.session import Session, open_session

__all__ = [
    "CHUNK_SAMPLES",
    "AudioFormat",
    "ClientError",
    "ClosedError",
    "ConnectError",
    "Event",
    "GaveUpError",
    "Reconnected",
    "RefusedError",
    "Session",
    "SilentError",
    "encode_chunks",
    "open_session",
]
