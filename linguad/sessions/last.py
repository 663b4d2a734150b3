"""How far sessions had come when the daemon stopped, so that their clients can be told after a restart.

Kept in `sessions.json` of the state directory for a while; only of sessions that can be resumed, and only the
hash of their token.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

import msgspec
import trio
from msgspec import Struct

from linguad import log
from linguad.core.session import Session
from linguad.files import replace_file

REMEMBERED_SECONDS = 600.0
"""How long after the stop a client may ask; then it has given up."""

MAX_LAST = 20_000
"""Sessions that are remembered."""

logger = log.get(__name__)


class Last(Struct, frozen=True, forbid_unknown_fields=True):
    """One session: the hash of its token, its last result, and the last utterance that it counted."""

    token_hash: str
    delivery: int
    last_utterance_index: int


class Kept(Struct, frozen=True, forbid_unknown_fields=True):
    """The file: when it was written (Unix time, s), and the sessions by id."""

    saved_at: float
    sessions: dict[str, Last]


class LastSessions:
    """The sessions of the daemon that ran before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Last] = {}

    async def load(self, epoch_s: float) -> None:
        """Read the file at the start and remove it; `epoch_s` is Unix time."""
        try:
            kept = await trio.to_thread.run_sync(_take, self._path)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            logger.warning("session_memory_broken", file=str(self._path), reason=type(error).__name__)
            return
        if 0 <= epoch_s - kept.saved_at <= REMEMBERED_SECONDS:
            self._known = kept.sessions

    async def save(self, sessions: Iterable[Session], epoch_s: float) -> None:
        """Write the file when the daemon stops; what goes wrong is logged."""
        lasts = {
            session.id: Last(session.recovery.token_hash, session.recovery.delivery, session.next_index - 1)
            for session in sessions
            if session.recovery is not None
        }
        kept = Kept(epoch_s, dict(list(lasts.items())[-MAX_LAST:]))
        try:
            await trio.to_thread.run_sync(replace_file, self._path, msgspec.json.encode(kept))
        except OSError as error:
            logger.warning("session_memory_unwritten", file=str(self._path), reason=type(error).__name__)

    def take(self, session_id: str, token: str) -> Last | None:
        """How far a session came, told once to whoever has its token."""
        last = self._known.get(session_id)
        if last is None or not compare_digest(last.token_hash, sha256(token.encode()).hexdigest()):
            return None
        return self._known.pop(session_id)


def _take(path: Path) -> Kept:
    data = path.read_bytes()
    path.unlink()
    return msgspec.json.decode(data, type=Kept)
