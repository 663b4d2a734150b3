"""Logging: one event name and plain fields per line, to standard output and, if wanted, to a rotated file.

Use it as `logger = log.get(__name__)`, then `logger.info("event_name", field=...)`. Every event name is
listed in docs/logging.md. Whatever a caller passes, speech, its text and keys do not reach a line (`_clean`).
"""

from __future__ import annotations

import io
import logging
import logging.handlers
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol, TextIO

import msgspec
import structlog
from structlog.stdlib import BoundLogger
from structlog.typing import EventDict, WrappedLogger

from linguad.errors import ConfigError

Format = Literal["auto", "pretty", "json"]
Level = Literal["debug", "info", "warning", "error", "critical"]

LIBRARIES = ("hypercorn", "quart", "trio", "trio-websocket", "wsproto", "libav")
"""Loggers that are not ours and may be named in `log.levels` as they are."""

MAX_TEXT_CHARS = 500
"""Longest text that is written: enough for any message of ours, too short for audio or a whole frame."""

MAX_SEARCHED_CHARS = 4 * MAX_TEXT_CHARS
"""Longest text that is searched for keys: room for the end of a key that begins in what is written."""

MAX_ITEMS = 50
"""Most members of a list or table that are written, so that one line stays readable."""

MAX_DEPTH = 4
"""Deepest nesting that is written; our own events are flat."""

MAX_TRACEBACK_LINES = 200
"""Most lines of a traceback: a deep recursion would otherwise fill the log."""

_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
"""Levels as syslog numbers them. The journal takes them off the front of a line, and keeps them beside it."""

_SPEECH = {"audio", "payload", "text", "texts", "transcript", "translation", "sentence", "context"}
_KEYS = {
    *("key", "keys", "apikey", "token", "tokens", "secret", "secrets", "password", "authorization"),
    *("cookie", "cookies", "credential", "credentials", "ticket", "pepper", "signature"),
}
_PRIVATE = frozenset(_SPEECH | _KEYS)
_PUBLIC = frozenset({"key_id"})
"""Names that sound private and are not: the id of a key is made to be told in its place."""
_WORD_BORDER = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")
_KEY_IN_TEXT = re.compile(
    r"((?:key|ticket|token|secret|password)(?:=|%3d|[\"']\s*:\s*[\"'])|\bbearer(?:\s+|\.)"
    # Our own keys, tickets and webhook secrets are known by how they begin; the id of a key may be shown.
    r"|\blk_[a-z]+_[a-z2-7]{12}_|\btk_|\bwhsec_)[^&\s\"']+"
    r"|(?<=://)[^/\s@]+(?=@)",
    re.IGNORECASE,
)
_MARKS = ("=", "@", " ", "%", '":', "':", "lk_", "tk_", "whsec_", "earer.")
"""A text with none of these holds no key, and need not be searched, which is slow."""
_LARGEST_INT = 2**63 - 1
_LEVELS = {"exception": logging.ERROR} | {
    name.lower(): number for name, number in logging.getLevelNamesMapping().items()
}
"""By the method that logs."""

_HOME = Path(__file__).parent
_handlers: list[logging.Handler] = []
_levelled: set[str] = set()


class Settings(Protocol):
    """What `configure` needs; the `[log]` table of the configuration fits."""

    @property
    def format(self) -> Format: ...
    @property
    def level(self) -> Level: ...
    @property
    def levels(self) -> Mapping[str, Level]: ...
    @property
    def file(self) -> str: ...
    @property
    def rotate_bytes(self) -> int: ...
    @property
    def keep(self) -> int: ...


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A log setting of the earlier server that was found; `problem` says why it is not used, "" if it is."""

    source: str
    problem: str = ""


def get(name: str) -> BoundLogger:
    """The logger of a module, named by its `__name__`."""
    # bound at once: else each line looks for its logger, which takes longer than a line that is not wanted
    logger: BoundLogger = structlog.stdlib.get_logger(name).bind()
    return logger


def configure(settings: Settings, notices: Iterable[Notice] = (), stream: TextIO | None = None) -> None:
    """Send events to `stream` (standard output if not given) and to the log file.

    May be called again; the file is then opened anew under its name, after somebody else has moved it.

    Each of `notices` becomes an event.

    Raises ConfigError if the log file cannot be opened; the earlier set-up then stays in force.
    """
    handlers: list[logging.Handler] = [_Stream(stream, settings.format)]
    if settings.file:
        handlers.append(_open_file(settings))
    reset()
    for handler in handlers:
        logging.root.addHandler(handler)
    _handlers.extend(handlers)
    _set_level("", "warning")
    for library in LIBRARIES:
        _set_level(library, "warning")
    _set_level("linguad", settings.level)
    for package, level in settings.levels.items():
        _set_level(_logger_name(package), level)
    for notice in notices:
        _logger.warning(
            "setting_deprecated", source=notice.source, used=not notice.problem, reason=notice.problem
        )


def reset() -> None:
    """Undo `configure`: no output, no levels of ours."""
    for handler in _handlers:
        logging.root.removeHandler(handler)
        handler.close()
    _handlers.clear()
    for name in _levelled:
        logging.getLogger(name).setLevel(logging.NOTSET if name else logging.WARNING)
    _levelled.clear()


def packages() -> list[str]:
    """Names of linguad's own packages and modules, as `log.levels` takes them."""
    return sorted(
        entry.name for entry in pkgutil.iter_modules([str(_HOME)]) if not entry.name.startswith("_")
    )


def is_package(name: str) -> bool:
    """Whether `name` may stand in `log.levels`: a library, or a package of linguad and, by dots, a part."""
    first, *below = name.removeprefix("linguad.").split(".")
    if first in LIBRARIES or name == "linguad":
        return True
    return first in packages() and all(part.isidentifier() for part in below)


def _set_level(name: str, level: Level) -> None:
    logging.getLogger(name).setLevel(level.upper())
    _levelled.add(name)


def _logger_name(package: str) -> str:
    if package.split(".")[0] in (*LIBRARIES, "linguad"):
        return package
    return f"linguad.{package}"


def _open_file(settings: Settings) -> _File:
    path = Path(settings.file)
    try:
        path = path.expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        return _File(path, settings.rotate_bytes, settings.keep)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError([("log.file", f"{path} cannot be opened: {reason}")]) from error


class _Stream(logging.Handler):
    """Writes to a stream that is looked up at each line, so that redirected standard output is honoured."""

    def __init__(self, stream: TextIO | None, format: Format) -> None:
        super().__init__()
        self._stream = stream
        target = stream or sys.stdout
        if isinstance(target, io.TextIOWrapper):
            # A terminal that cannot show a character must not cost us the line.
            target.reconfigure(errors="backslashreplace")
        pretty = format == "pretty" or (format == "auto" and target.isatty())
        self._prioritized = _is_journal(target)
        self.setFormatter(_Formatter(_pretty(colors=target.isatty()) if pretty else _to_json))

    def emit(self, record: logging.LogRecord) -> None:
        stream = self._stream or sys.stdout
        try:
            text = self.format(record)
            if self._prioritized:
                mark = f"<{_PRIORITIES.get(record.levelno, _PRIORITIES[logging.INFO])}>"
                text = mark + text.replace("\n", f"\n{mark}")
            stream.write(text + "\n")
            stream.flush()
        except Exception:  # noqa: BLE001 - neither a closed output nor a library's bad message may end the caller
            self.handleError(record)


def _is_journal(stream: TextIO) -> bool:
    """Whether what is written there goes to systemd's journal, which says so by device and inode."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _File(logging.handlers.RotatingFileHandler):
    """JSON lines in a file that is renamed to `.1`, `.2` … when it has grown to its size."""

    def __init__(self, path: Path, rotate_bytes: int, keep: int) -> None:
        super().__init__(path, maxBytes=rotate_bytes, backupCount=keep, encoding="utf-8", errors="replace")
        self.setFormatter(_Formatter(_to_json))


def _stamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    event["timestamp"] = now.removesuffix("+00:00") + "Z"
    return event


def _render_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Turn `exc_info` into a traceback text without locals, each line cut: messages may quote a peer."""
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else sys.exception() if given is True else given
    if isinstance(error, BaseException):
        lines = "".join(traceback.TracebackException.from_exception(error).format()).splitlines()
        if len(lines) > MAX_TRACEBACK_LINES:
            half = MAX_TRACEBACK_LINES // 2
            lines[half:-half] = [f"… {len(lines) - 2 * half} lines left out …"]
        event["exception"] = "\n".join(_cut(line) for line in lines)
    return event


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep speech, text and keys out of the line and make every value plain and short."""
    return {
        key: value if key in ("exception", "timestamp", "exc_info") else _clean(key, value, 0)
        for key, value in event.items()
    }


@lru_cache(maxsize=1024)
def _is_private(name: str) -> bool:
    return name not in _PUBLIC and not _PRIVATE.isdisjoint(_WORD_BORDER.sub(" ", name).lower().split())


def _clean(name: str, value: object, depth: int) -> object:
    """`value` as a plain, short, printable one; its length only, if the field's name says speech or key."""
    if isinstance(value, str):
        return f"<{len(value)} chars>" if _is_private(name) else _cut(value)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -_LARGEST_INT <= value <= _LARGEST_INT else f"<int of {value.bit_length()} bits>"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, Path):
        return _cut(str(value))
    if isinstance(value, BaseException):
        return _cut(f"{type(value).__name__}: {value}")
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        if depth >= MAX_DEPTH or _is_private(name):
            return f"<{len(value)} items>"
        if isinstance(value, Mapping):
            head = list(value.items())[:MAX_ITEMS]
            return {_cut(str(key)): _clean(str(key), item, depth + 1) for key, item in head}
        return [_clean(name, item, depth + 1) for item in list(value)[:MAX_ITEMS]]
    # The repr of a message or a session would show what it holds.
    return f"<{type(value).__name__}>"


def _cut(text: str) -> str:
    """At most MAX_TEXT_CHARS of `text`, keys hidden (`?api_key=…`, `Bearer …`, `lk_live_…`, `redis://…@host`).

    Control characters are escaped: a peer must not steer a terminal or forge a line.
    """
    length = len(text)
    text = text[:MAX_SEARCHED_CHARS]
    if any(mark in text for mark in _MARKS):
        text = _KEY_IN_TEXT.sub(r"\1<hidden>", text)
    if len(text) > MAX_TEXT_CHARS or length > MAX_SEARCHED_CHARS:
        text = f"{text[:MAX_TEXT_CHARS]}… <{length} chars>"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _to_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    head = {key: event.pop(key) for key in ("timestamp", "level", "event", "logger") if key in event}
    return msgspec.json.encode({**head, **event}).decode()


def _pretty(*, colors: bool) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        colors=colors, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
    )


class _Formatter(logging.Formatter):
    """Lays out an event of ours, which arrives as a finished table, or the message of a library."""

    def __init__(self, render: Callable[[WrappedLogger, str, EventDict], str]) -> None:
        super().__init__()
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record.msg, dict):
            return self._render(None, "", record.msg.copy())
        event: EventDict = {
            "event": "library_message",
            "message": record.getMessage(),
            "logger": record.name,
            "level": record.levelname.lower(),
            "exc_info": record.exc_info,
        }
        return self._render(None, "", _stamp(None, "", _redact(None, "", _render_exception(None, "", event))))


def _hand_over(
    _logger: WrappedLogger, _method: str, event: EventDict
) -> tuple[tuple[EventDict], dict[str, object]]:
    return (event,), {}


class _Logger(BoundLogger):
    """Asks for the level first and does not look for the line of the caller, which nobody is shown."""

    def _proxy_to_logger(
        self, method_name: str, event: str | None = None, *event_args: str, **event_kw: object
    ) -> None:
        level = _LEVELS[method_name]
        logger: logging.Logger = self._logger
        if logger.isEnabledFor(level):
            (table,), _ = self._process_event(method_name, event, event_kw)
            logger.handle(logging.LogRecord(logger.name, level, "", 0, table, None, None))


structlog.configure(
    # What makes a line safe runs before any handler sees the event, ours or somebody else's.
    processors=[
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        _render_exception,
        _redact,
        _stamp,
        _hand_over,
    ],
    wrapper_class=_Logger,
    logger_factory=structlog.stdlib.LoggerFactory(),
)
_logger = get(__name__)
