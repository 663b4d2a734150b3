"""What a node tells the hub about its models: queued, sent in batches, never waited for (11)."""

from __future__ import annotations

import uuid
from collections import Counter, deque
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import trio

from linguad import log
from linguad.files import replace_file
from linguad.models.errors import HubProtocolError, NetworkError
from linguad.models.hub import Hub
from linguad.models.locks import exclusive
from linguad.models.names import Key
from linguad.models.registry import stamp

QUEUE_EVENTS, BATCH_EVENTS = 10_000, 500
"""What is kept, oldest dropped first, and what goes in one request."""

MAX_COUNT = 10_000
"""An event stands for so many times at most (model-hub 11.6)."""

SEND_SECONDS = 60.0

logger = log.get(__name__)


class Usage:
    """The queue of one process; what it could not send, the next process finds in `file`.

    Mutable state: what was counted since events were last made of it, and the events.
    """

    def __init__(self, file: Path, hub: Hub, node_id: str | None) -> None:
        self._file = file
        self._hub = hub
        self._node_id = node_id
        self._counts: Counter[tuple[str, Key]] = Counter()
        self._waiting: deque[dict[str, Any]] = deque(maxlen=QUEUE_EVENTS)

    @property
    def waiting(self) -> int:
        """What is still to be sent."""
        return len(self._waiting) + len(self._counts)

    def note(self, what: str, one: Key) -> None:
        """Something happened: request, download, install, load or error. Costs a microsecond."""
        self._counts[what, one] += 1

    def _gather(self) -> None:
        """Make events of what was counted: one for each kind and version, not one for each time."""
        for (what, one), count in self._counts.items():
            event = {
                "event_id": str(uuid.uuid4()),
                "type": what,
                "model_id": one.model_id,
                "version": one.version,
                "count": min(count, MAX_COUNT),
                "at": stamp(),
            }
            self._waiting.append(event | ({"node_id": self._node_id} if self._node_id else {}))
        self._counts.clear()

    async def run(self) -> None:
        """Send what waits, every minute; until cancelled."""
        await trio.to_thread.run_sync(self._take_over)
        while True:
            await trio.sleep(SEND_SECONDS)
            await self.send()

    async def send(self) -> None:
        """Send what waits; a hub that does not want it loses it, one that is away gets it later."""
        self._gather()
        while self._waiting:
            # It stays in the queue until it is taken; the hub knows an event that it gets twice.
            batch = list(islice(self._waiting, BATCH_EVENTS))
            try:
                await self._hub.report(batch)
            except HubProtocolError as error:
                logger.info("model_usage_unwanted", events=len(batch), reason=str(error))
            except NetworkError as error:
                logger.info("model_usage_unsent", events=len(self._waiting), reason=str(error))
                return
            for _ in batch:
                self._waiting.popleft()

    def save(self) -> None:
        """Leave what waits to the next process; for a worker thread."""
        self._gather()
        if not self._waiting:
            return
        try:
            with exclusive(self._file.with_suffix(".lock")):
                events = (_read(self._file) + list(self._waiting))[-QUEUE_EVENTS:]
                replace_file(self._file, msgspec.json.encode(events))
        except OSError as error:
            logger.info("model_usage_unsent", events=len(self._waiting), reason=str(error))

    def _take_over(self) -> None:
        try:
            with exclusive(self._file.with_suffix(".lock")):
                self._waiting.extendleft(reversed(_read(self._file)))
                self._file.unlink(missing_ok=True)
        except OSError as error:
            logger.info("model_usage_unsent", events=0, reason=str(error))


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[dict[str, Any]])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return []
