"""linguad's own log during a run: a part of the event log, and an error in it ends the run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from .world import World

HIDDEN = frozenset({"event", "exception", "level", "logger", "timestamp"})


class Journal(logging.Handler):
    """Hears what the daemon would have written."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        """Raises AssertionError for what the daemon outlives, but only bugs can cause."""
        event = record.msg
        assert isinstance(event, dict)
        fields = " ".join(f"{name}={value}" for name, value in event.items() if name not in HIDDEN)
        if record.levelno >= logging.ERROR:
            cause = event.get("exception", "").rpartition("\n")[2]
            raise AssertionError(f"linguad logged the error {event['event']} {fields}: {cause}")
        if self._world.told:
            self._world.say("linguad", f"{event['event']} {fields}")


@contextmanager
def listening(world: World) -> Iterator[None]:
    """Hear linguad's log, and keep it from everybody else."""
    logger, journal = logging.getLogger("linguad"), Journal(world)
    before = logger.level, logger.propagate
    logger.addHandler(journal)
    logger.setLevel(logging.DEBUG if world.told else logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(journal)
        logger.level, logger.propagate = before
