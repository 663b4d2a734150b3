"""What a download tells about itself: bytes, speed, time left, and events for whoever listens (9).

Listening never slows a download: each listener has a bounded queue from which old progress is dropped, the
end of a task never.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

import msgspec
import trio

QUEUE_EVENTS = 256
"""What a listener may have waiting."""

SPEED_SECONDS = 5.0
"""Speed is the mean over so long."""

PROGRESS_SECONDS = 0.2
"""At most so often is progress told, apart from changes of state."""


class State(StrEnum):
    """Where a task is."""

    CHECKING = "checking"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    INSTALLING = "installing"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDS = frozenset({State.READY, State.FAILED, State.CANCELLED})


class Event(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, tag_field="event"):
    """Base of all events; camelCase in JSON, as the old client has them."""

    model_id: str
    version: str

    @property
    def may_be_dropped(self) -> bool:
        """Whether a slow listener may miss it."""
        return False


class Progress(Event, frozen=True, kw_only=True, rename="camel", omit_defaults=True, tag="progress"):
    """How far a task is; sizes in bytes, speed in bytes/s, time in s. Exactly one ends a task."""

    state: State
    downloaded_bytes: int = 0
    """With what was there before and what came from other versions."""
    total_bytes: int = 0
    percent: float = 0.0
    downloaded_files: int = 0
    total_files: int = 0
    current_file: str | None = None
    download_speed: float = 0.0
    estimated_time_remaining: float | None = None
    restarted: bool = False
    """A file turned out to be damaged, so the percentage may have gone down."""

    @property
    def may_be_dropped(self) -> bool:
        """All but the end."""
        return self.state not in ENDS


class Problem(Event, frozen=True, kw_only=True, rename="camel", omit_defaults=True, tag="error"):
    """A task failed."""

    stage: str
    code: str
    message: str
    can_retry: bool


class Changed(
    Event, frozen=True, kw_only=True, rename="camel", omit_defaults=True, tag="capability-state-changed"
):
    """A version can, or cannot, be used from now on."""

    status: str


class Happened(Event, frozen=True, kw_only=True, rename="camel", omit_defaults=True, tag="happened"):
    """`what` is activated, rolled_back, removed or corrupt."""

    what: str


class Events:
    """Hands events to its listeners. Mutable state: their queues."""

    def __init__(self) -> None:
        self._listeners: set[_Queue] = set()

    def tell(self, event: Event) -> None:
        """Put an event into every queue; never blocks and never fails."""
        for listener in self._listeners:
            listener.put(event)

    @contextmanager
    def listen(self, *kinds: type[Event]) -> Iterator[AsyncIterator[Event]]:
        """Events of these kinds (all without), from now on until the end of the block."""
        queue = _Queue(kinds or (Event,))
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)


class _Queue(AsyncIterator[Event]):
    def __init__(self, kinds: tuple[type[Event], ...]) -> None:
        self._kinds = kinds
        self._waiting: deque[Event] = deque()
        self._filled = trio.Event()

    def put(self, event: Event) -> None:
        if not isinstance(event, self._kinds):
            return
        if len(self._waiting) >= QUEUE_EVENTS:
            oldest = next((one for one in self._waiting if one.may_be_dropped), None)
            if oldest is None and event.may_be_dropped:
                return
            if oldest is not None:
                self._waiting.remove(oldest)
        self._waiting.append(event)
        self._filled.set()

    async def __anext__(self) -> Event:
        while not self._waiting:
            self._filled = trio.Event()
            await self._filled.wait()
        return self._waiting.popleft()


class Meter:
    """Counts the bytes of one task and makes its Progress; `now` is monotonic, s."""

    def __init__(
        self, model_id: str, version: str, tell: Callable[[Event], object], now: Callable[[], float]
    ) -> None:
        self._model_id, self._version = model_id, version
        self._tell = tell
        self._now = now
        self._state = State.CHECKING
        self._bytes = self._total = self._files = self._total_files = 0
        self._percent = 0.0
        self._restarted = False
        self._current: str | None = None
        self._moved: deque[tuple[float, int]] = deque()
        self._told_at = -PROGRESS_SECONDS

    def state(self, state: State) -> None:
        """The task goes on to another state, which is always told."""
        self._state = state
        self._emit()

    def expect(self, files: int, size: int) -> None:
        """What there is to do; what was counted before is void."""
        self._total_files, self._total = files, size
        self._bytes = self._files = 0

    def have(self, count: int) -> None:
        """So many bytes were there already or came from another version."""
        self._bytes += count
        self._maybe()

    def moved(self, count: int, path: str) -> None:
        """So many bytes came over the line."""
        self._bytes += count
        self._current = path
        self._moved.append((self._now(), count))
        self._maybe()

    def lost(self, count: int, *, damaged: bool) -> None:
        """So many bytes of a file are worth nothing and come once more."""
        self._bytes -= count
        if damaged:
            self._restarted, self._percent = True, 0.0
        self._maybe()

    def finished(self) -> None:
        """One more file is complete."""
        self._files += 1
        self._maybe()

    def _maybe(self) -> None:
        if self._now() - self._told_at >= PROGRESS_SECONDS:
            self._emit()

    def _emit(self) -> None:
        self._told_at = now = self._now()
        speed = self._speed(now)
        done = 100.0 if self._state is State.READY else min(100.0, 100 * self._bytes / (self._total or 1))
        self._percent = max(self._percent, done)
        left = self._total - self._bytes
        self._tell(
            Progress(
                model_id=self._model_id,
                version=self._version,
                state=self._state,
                downloaded_bytes=self._bytes,
                total_bytes=self._total,
                percent=round(self._percent, 1),
                downloaded_files=self._files,
                total_files=self._total_files,
                current_file=self._current,
                download_speed=speed,
                estimated_time_remaining=left / speed if speed > 0 else None,
                restarted=self._restarted,
            )
        )

    def _speed(self, now: float) -> float:
        while self._moved and self._moved[0][0] < now - SPEED_SECONDS:
            self._moved.popleft()
        if not self._moved:
            return 0.0
        seconds = max(now - self._moved[0][0], PROGRESS_SECONDS)
        return sum(count for _, count in itertools.islice(self._moved, 1, None)) / seconds


class Gate:
    """Holds downloads back while the machine has better things to do, but never for good.

    Each block of a file waits here for at most `patience_seconds`, so that a node which is never idle still
    gets its models, and no hub takes the pause for a dead client.
    """

    def __init__(self, patience_seconds: float = 5.0) -> None:
        self._patience_seconds = patience_seconds
        self._opened = trio.Event()
        self._opened.set()

    def close(self) -> None:
        """Hold downloads back from now on."""
        if self._opened.is_set():
            self._opened = trio.Event()

    def open(self) -> None:
        """Let them pass."""
        self._opened.set()

    async def passed(self) -> None:
        """Wait until it is open, or long enough."""
        if not self._opened.is_set():
            with trio.move_on_after(self._patience_seconds):
                await self._opened.wait()
