"""What a conversation on `/v1/stream` wants done; the shell does it in order, at once."""

from __future__ import annotations

from msgspec import Struct

from linguad.errors import CloseReason
from linguad.gateway.stream.opening import Opening
from linguad.wire.public import StreamAnswer


class Say(Struct, frozen=True):
    """Tell the client; an optional message may be dropped for one that reads slowly."""

    message: StreamAnswer
    optional: bool = False


class Authenticate(Struct, frozen=True):
    """Find out who has this credential, then call `authenticated` or `rejected`."""

    token: str


class Open(Struct, frozen=True):
    """Take a slot and open a session of the core, then call `opened` or `not_opened`."""

    opening: Opening


class Utter(Struct, frozen=True):
    """Say a whole utterance to the core."""

    audio: bytes


class Stream(Struct, frozen=True):
    """Stream some audio to the core; with `final` its utterance ends."""

    audio: bytes
    final: bool


class HangUp(Struct, frozen=True):
    """Let the core finish what it has; `over` is called when it has."""


class Release(Struct, frozen=True):
    """The session is over: end it in the core, whatever is open there, and give its slot back."""


class Close(Struct, frozen=True):
    """Close the socket, after what was said."""

    reason: CloseReason


Action = Say | Authenticate | Open | Utter | Stream | HangUp | Release | Close
