"""Which commands a shared connection can carry, and how long they may block it."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import hiredis

Word = str | bytes | int | float | memoryview
"""One part of a command: its name, a key, a value."""

Words = Sequence[Word]

_REPLY_CHANGERS = frozenset({"OFF", "SKIP"})
_READS = frozenset({"XREAD", "XREADGROUP"})
_SUBSCRIPTIONS = frozenset(
    {"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"}
)
_BANNED = frozenset(
    # state of the connection, which belongs to all who use it
    {"AUTH", "HELLO", "SELECT", "RESET", "QUIT", "MONITOR", "READONLY", "READWRITE"}
    # a transaction would take in the commands of others; one script does what it could
    | {"MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH"}
    # they block, and everybody behind them waits
    | {
        "BLPOP",
        "BRPOP",
        "BLMOVE",
        "BRPOPLPUSH",
        "BLMPOP",
        "BZPOPMIN",
        "BZPOPMAX",
        "BZMPOP",
        "WAIT",
        "WAITAOF",
    }
    # no replies, or replies without end
    | {"SYNC", "PSYNC"}
)


def name_of(words: Words) -> str:
    """The command's name in upper case."""
    word = words[0]
    return word.upper() if isinstance(word, str) else str(word)


def pack(words: Words) -> bytes:
    """The command as it goes over the wire. Raises TypeError for None, booleans and the like."""
    packed: bytes = hiredis.pack_command(tuple(words))  # type: ignore[arg-type] # its stub means one word
    return packed


def check(name: str, words: Words, *, listening: bool) -> float:
    """How long Redis may block before it answers, s; 0 for nearly all commands.

    Raises ValueError for what would break the connection for its other users. Only a connection that is
    `listening` takes blocking reads and subscriptions.
    """
    if name in _BANNED or (name == "CLIENT" and len(words) > 2 and _reply_changes(words)):
        raise ValueError(f"{name} is not for a connection that many tasks share")
    if name in _SUBSCRIPTIONS:
        if not listening:
            raise ValueError(f"{name} is for the listener")
        if len(words) == 1:
            raise ValueError(f"{name} wants the names of channels, each of which is confirmed")
    if name not in _READS:
        return 0.0
    block_s = _block_seconds(words)
    if block_s and not listening:
        raise ValueError(f"{name} with BLOCK is for the listener")
    if block_s == inf:
        raise ValueError(f"{name} may not block for ever: a lost server would never be noticed")
    return block_s


def confirmations(name: str, words: Words) -> int:
    """Pushes by which Redis answers a subscription; 0 for all other commands, which get a reply."""
    return len(words) - 1 if name in _SUBSCRIPTIONS else 0


def _reply_changes(words: Words) -> bool:
    return str(words[1]).upper() == "REPLY" and str(words[2]).upper() in _REPLY_CHANGERS


def _block_seconds(words: Words) -> float:
    for position, word in enumerate(words[:-1]):
        text = word.decode() if isinstance(word, bytes) else str(word)
        if text.upper() == "STREAMS":
            break
        if text.upper() == "BLOCK":
            milliseconds = float(str(words[position + 1]))
            return milliseconds / 1000 if milliseconds > 0 else inf
    return 0.0
