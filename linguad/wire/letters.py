"""What instances write to each other: letters, and the envelope in which one lies in an inbox.

Each kind of letter is a class in a file of its feature. Instances of two versions may be in one cluster:
members can be added with a default, and a kind that an instance does not know becomes a dead letter there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import msgspec
from msgspec import Struct

from linguad.errors import ErrorCode, WireError


class Letter(Struct, frozen=True, tag=True, omit_defaults=True):
    """Base of all letters; the name of the class, or its `tag`, is the kind on the wire."""

    outlives: ClassVar[bool] = False
    """Whether it still means something once the process it was written to is gone: then the instance that
    takes the inbox over gets it. Others are dropped with the inbox, since their senders hear of the death."""
    kept: ClassVar[bool] = False
    """Whether its body holds nothing that people said, so that a dead letter may keep it, to be replayed."""

    @classmethod
    def kind(cls) -> str:
        """The kind on the wire."""
        return str(cls.__struct_config__.tag)


class Envelope(Struct, frozen=True, kw_only=True):
    """One letter with all that is needed to deliver it; the fields of a stream's entry, apart from `from`."""

    kind: str
    body: bytes
    """The letter as msgpack."""
    audio: bytes = b""
    sender: str
    """Instance it is from; the field `from`."""
    to: str
    """The boot of the process it is for: one that was started anew under the same name is another."""
    account: str
    """In which the sender counts; a new one for every process it writes to."""
    seq: int
    """Counts up within the account: letters that come twice are known by it."""
    lane: str
    """What it is about: a session, a node. Letters of one lane arrive in the order of sending."""
    at_ms: int
    """When it was sent, Unix time of Redis."""
    expires_ms: int
    """From then on it is not delivered, Unix time of Redis."""

    @property
    def size(self) -> int:
        """Bytes that count against the bound of the sender."""
        return len(self.body) + len(self.audio)

    @classmethod
    def read(cls, fields: Mapping[bytes, bytes]) -> Self:
        """The envelope of a stream's entry. Raises WireError."""
        said: dict[str, object] = {}
        try:
            for name, value in fields.items():
                key = name.decode()
                said[_RENAMED.get(key, key)] = value if key in _RAW else value.decode()
            return msgspec.convert(said, cls, strict=False)
        except (UnicodeDecodeError, msgspec.ValidationError) as error:
            raise WireError(ErrorCode.INVALID_MESSAGE, f"no envelope of a letter: {error}") from error


_RAW = frozenset({"body", "audio"})
_RENAMED = {"from": "sender"}
