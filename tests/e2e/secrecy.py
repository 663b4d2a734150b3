"""What a daemon must never write: keys, tickets, secrets of webhooks, audio, and text of speech.

They are told by their shape, so that no test has to name them; keys without a shape are named by those who
send them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

CREDENTIALS = {
    "a key": rb"lk_(?:live|test)_[a-z2-7]{12}_[A-Za-z0-9_-]{20,}",
    "a ticket": rb"\btk_[A-Za-z0-9_-]{40,}",
    "the secret of a webhook": rb"whsec_[A-Za-z0-9_-]{40,}",
}
SPEECH = {
    # what the nodes of the tests hear and say; JSON may have escaped it
    "text of speech": r"\bheard \d|\bo(?:í|\\u00ed)do \d".encode(),
    "audio": rb"[A-Za-z0-9+/]{200,}",
}
MIN_NAMED_CHARS = 12
"""Shorter texts of a test would be found by chance."""

HOLDERS = ("dev_api_key", "admin_token", "pepper")
"""Files that are there to hold a secret; only their owner can read them."""


def leaks(written: Iterable[tuple[str, bytes]], named: Collection[str] = ()) -> list[str]:
    """What was written and must not be, as `where: what (its beginning)`; `written` is (where, bytes)."""
    known = [text.encode() for text in named if len(text) >= MIN_NAMED_CHARS]
    return [
        f"{where}: {what}" for where, data in written for what in _found(data, CREDENTIALS | SPEECH, known)
    ]


def leaks_of_files(directory: Path, named: Collection[str] = ()) -> list[str]:
    """Credentials in files below a state directory; texts and recordings of jobs may be there."""
    known = [text.encode() for text in named if len(text) >= MIN_NAMED_CHARS]
    return [
        f"{path.name}: {what}"
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in HOLDERS
        for what in _found(path.read_bytes(), CREDENTIALS, known)
    ]


def _found(data: bytes, shapes: dict[str, bytes], known: Iterable[bytes]) -> Iterator[str]:
    for what, shape in shapes.items():
        if seen := re.search(shape, data):
            yield f"{what} ({seen[0][:16].decode(errors='replace')}…)"
    yield from (f"a key ({text[:6].decode()}…)" for text in known if text in data)
