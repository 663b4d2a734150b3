"""Why a connection ended or did not come about, in words for people."""

from __future__ import annotations

import os
import ssl

from linguad.net.redis.errors import RedisError
from linguad.net.redis.replies import ProtocolBroken


class Lost(Exception):
    """The connection is over, or did not come about; the text says why."""


def why(error: BaseException) -> str:
    """What an error means, or the first of a group; without anything a server or a library may quote."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
            continue
        if isinstance(cause, Lost | RedisError | ProtocolBroken):
            return str(cause)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"no TLS: {cause.reason}"
        if isinstance(cause, OSError) and cause.errno:
            # names that cannot be resolved have negative numbers of their own
            return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)
        cause = cause.__cause__
    return "the connection is lost"
