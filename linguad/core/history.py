"""Jobs that are over: first they may still get a late answer, then they can only be explained."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from linguad.core.job import Job

MAX_ANSWERABLE = 20_000
"""Jobs that may get a late answer, whatever their age."""


class History:
    """Mutable state: ended jobs in the order of their ends; without audio and without what was said."""

    def __init__(self, retention_s: float, explained: int) -> None:
        self._retention_s = retention_s
        self._explained = explained
        self._answerable: deque[Job] = deque()
        self._others: deque[Job] = deque()

    def __len__(self) -> int:
        return len(self._answerable) + len(self._others)

    def add(self, job: Job) -> None:
        """A job ended."""
        self._answerable.append(job)

    def age(self, now: float, close: Callable[[Job], object], forget: Callable[[Job], object]) -> None:
        """`close` what gets no late answer any more, `forget` what is beyond the last ones."""
        answerable, oldest = self._answerable, now - self._retention_s
        while answerable and (len(answerable) > MAX_ANSWERABLE or answerable[0].finished_at < oldest):
            close(answerable[0])
            self._others.append(answerable.popleft())
        while self._others and len(self) > self._explained:
            forget(self._others.popleft())
