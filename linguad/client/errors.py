"""What can go wrong with a session, from the client's side."""

from __future__ import annotations

from linguad.errors import LinguadError


class ClientError(LinguadError):
    """A session could not be opened or came to an unwanted end."""


class ConnectError(ClientError):
    """Nothing that speaks the session protocol answers at the address."""


class RefusedError(ClientError):
    """The server answered, but gave no session; `code` is its error code (session-protocol 8)."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class ClosedError(ClientError):
    """The connection is gone; `code` is the WebSocket close code, 1006 when it just broke."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


class SilentError(ClientError):
    """The server keeps the connection open but no longer reads or answers."""


class GaveUpError(ClientError):
    """The connection was lost and could not be made again in time; the text names the last cause."""
