"""What members of a room tell each other through the server (session-protocol 2.3, 6.5).

Whatever is not allowed is dropped without an answer, as clients expect.
"""

from __future__ import annotations

from msgspec.structs import replace

from linguad.core.room import Member, Room, Tell
from linguad.wire.room import (
    RemoteSpeakingEnd,
    RemoteSpeakingStart,
    WebrtcAnswer,
    WebrtcIce,
    WebrtcOffer,
)

Signal = WebrtcOffer | WebrtcAnswer | WebrtcIce

MAX_SIGNAL_BYTES = 64 * 1024
"""Longest description or candidate that is relayed; real ones have some thousand bytes."""

SPEAKING_BURST = 5
"""Times that a member may say at once that it began to speak."""

SPEAKING_PER_S = 1.0
"""Such messages that it may go on with."""


def relay_signal(room: Room, sender: Member, signal: Signal) -> list[Tell]:
    """Signalling for another member that did not refuse the sender's voice; optional, against floods."""
    receiver = room.members.get(signal.to)
    payload = signal.candidate if isinstance(signal, WebrtcIce) else signal.sdp
    if receiver is None or receiver is sender or not receiver.raw_voice.get(sender.session_id, True):
        return []
    if len(memoryview(payload)) > MAX_SIGNAL_BYTES:
        return []
    return [Tell(receiver.session_id, replace(signal, to=sender.session_id), optional=True)]


def relay_start(room: Room, sender: Member, message: RemoteSpeakingStart, now: float) -> list[Tell]:
    """The sender began to speak; told once, and not too often."""
    if sender.speaking or not sender.starts.take(now):
        return []
    sender.speaking = True
    return room.tell_all(replace(message, from_=sender.session_id), but=sender.session_id)


def relay_end(room: Room, sender: Member, message: RemoteSpeakingEnd) -> list[Tell]:
    """The sender stopped speaking; told if its start was."""
    if not sender.speaking:
        return []
    sender.speaking = False
    return room.tell_all(replace(message, from_=sender.session_id), but=sender.session_id)
