"""The pepper: a secret of this server without which the store recognises no key (design 10).

Keys have 256 random bits, so that one HMAC is enough: nobody finds a key by trying, and a copy of the
database alone does not even tell whether a guess is right.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from sqlalchemy import Connection, insert, select, update

from linguad.errors import LinguadError
from linguad.store.keys import api_keys
from linguad.store.schema import meta

PEPPER_BYTES = 32
"""Random bytes of a pepper that is made here."""

MIN_PEPPER_BYTES = 16
"""Shortest pepper that an operator may bring."""

LOOKUP_CHARS = 16
"""So many hexadecimal digits of the HMAC are the index of a key."""

CHECK = "pepper_check"
"""Row of `meta` that tells a wrong pepper."""


class Pepper:
    """Recognises keys without keeping them."""

    def __init__(self, secret: bytes, path: Path) -> None:
        self._secret = secret
        self.path = path

    def verifier(self, credential: str) -> bytes:
        """What is kept of a key; 32 bytes."""
        return hmac.digest(self._secret, credential.encode(), hashlib.sha256)

    def check(self, connection: Connection) -> None:
        """Compare with the pepper that the store knows, or let it know this one if no key would suffer.

        Raises LinguadError with the cure if the keys of this store were made with another one.
        """
        ours = self.verifier("linguad pepper check").hex()
        known = connection.execute(select(meta.c.value).where(meta.c.name == CHECK)).scalar()
        if known is None:
            connection.execute(insert(meta).values(name=CHECK, value=ours))
        elif not hmac.compare_digest(known, ours):
            if connection.execute(
                select(api_keys.c.id).where(api_keys.c.revoked_at.is_(None)).limit(1)
            ).first():
                raise LinguadError(
                    f"{self.path} is not the pepper that the keys in this store were made with, so none of "
                    "them would work: put the right file back, or name it in gateway.pepper_file; if it is "
                    "lost, revoke them all with linguad key revoke --all, start again and make new ones."
                )
            connection.execute(update(meta).where(meta.c.name == CHECK).values(value=ours))


def lookup_of(verifier: bytes) -> str:
    """The index of a key."""
    return verifier.hex()[:LOOKUP_CHARS]


def load_pepper(configured: str, state_dir: Path) -> Pepper:
    """The pepper of the file that `gateway.pepper_file` names; else of `pepper` in the state directory.

    The latter is made on first use. Raises LinguadError when the file cannot be used. For a worker thread.
    """
    path = Path(configured).expanduser() if configured else state_dir / "pepper"
    try:
        if not configured and not path.exists():
            _make(path)
        secret = path.read_bytes().strip()
    except OSError as error:
        raise LinguadError(
            f"The pepper cannot be read from {path}: {error.strerror}; see that linguad may read it, "
            "or set gateway.pepper_file."
        ) from error
    if len(secret) < MIN_PEPPER_BYTES:
        raise LinguadError(
            f"The pepper in {path} is shorter than {MIN_PEPPER_BYTES} bytes; put the right file back, "
            "or make one with: openssl rand -hex 32"
        )
    return Pepper(secret, path)


def _make(path: Path) -> None:
    """Make the file whole, unless another process was first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with open(fresh, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(secrets.token_hex(PEPPER_BYTES).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink(missing_ok=True)
