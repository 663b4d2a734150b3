"""Errors on one socket of `/v1/stream`: safe sentences, no speech, audio or key in them (gateway 6.3)."""

from __future__ import annotations

from typing import Any

from linguad.errors import WireError
from linguad.gateway.speech.mapping import Failure
from linguad.gateway.stream.actions import Say
from linguad.web.problems import Problem
from linguad.wire.public import Error


class Complaints:
    """Makes them; each names the request that opened the socket."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def tell(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        index: int | None = None,
        details: Any = None,
    ) -> Say:
        """Any error."""
        return Say(self.error(code, message, retryable=retryable, index=index, details=details))

    def error(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        index: int | None = None,
        details: Any = None,
    ) -> Error:
        """The message itself; with `index` it answers an utterance."""
        return Error(
            code=code,
            message=message,
            retryable=retryable,
            request_id=self._request_id,
            utterance_index=index,
            details=details,
        )

    def failure(self, failure: Failure, index: int | None = None) -> Error:
        """Something went wrong inside."""
        return self.error(failure.code, failure.message, retryable=failure.retryable, index=index)

    def problem(self, problem: Problem) -> Say:
        """The same as REST would answer."""
        return self.tell(problem.code, problem.message, retryable=problem.retryable, details=problem.details)

    def unreadable(self, error: WireError) -> Say:
        """A frame that is no message."""
        if not error.field:
            return self.tell("invalid_json", f"{error}; send one JSON object in a text frame")
        if error.field == "type":
            kinds = "auth, start, audio, end, cancel and ping"
            return self.tell("unknown_type", f"{error}; allowed are {kinds}")
        if error.field in ("chunk", "data"):
            return self.tell("missing_chunk", f"{error.field}: send the audio as base64 text")
        return self.field(error.field, str(error).removeprefix(f"{error.field}: "))

    def field(self, field: str, reason: str) -> Say:
        """A member that cannot be used."""
        details = [{"field": field, "reason": reason}]
        return self.tell("invalid_field", f"{field}: {reason}", details=details)
