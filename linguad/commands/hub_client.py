"""How `linguad hub` speaks with a hub: requests with errors for people, and files sent in parts."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from linguad.errors import LinguadError

PART_BYTES = 16 * 1024 * 1024
"""Sent in one request: what is lost when a connection breaks."""

TIMEOUT_SECONDS = 150.0
"""Longer than the hub waits for the end of a publication (120 s)."""

TRIES = 5
"""How often a part is begun again, from where the hub says."""

PAUSE_SECONDS = 1.0
"""Before a part is sent once more that the hub did not take."""

Step = Callable[[int], object]
"""Hears of bytes that are done."""


class HubClient:
    """Requests to one hub."""

    def __init__(self, url: str, token: str) -> None:
        """Raises LinguadError for an URL that is none."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise LinguadError(f"--hub {url!r} must be an URL like http://hub.example:5000")
        self.url = url.rstrip("/")
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port = parts.hostname, parts.port
        self._base = parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ask(self, method: str, path: str, value: object = None) -> Any:
        """The JSON answer. Raises LinguadError that says what the hub says."""
        body = b"" if value is None else json.dumps(value).encode()
        status, _, data = self._request(method, path, body, {})
        return _usable(status, data)

    def send_file(self, path: str, file: Path, size: int, step: Step) -> None:
        """Send a file from where the hub has it. Raises LinguadError, OSError."""
        failures = 0
        while (at := self._offset(path)) < size:
            with open(file, "rb") as source:
                source.seek(at)
                part = source.read(PART_BYTES)
            try:
                status, headers, data = self._request("PATCH", path, part, {"Upload-Offset": str(at)})
            except LinguadError:
                failures += 1
                if failures >= TRIES:
                    raise
                continue
            now = int(headers.get("upload-offset", at))
            if status not in (204, 409) or now <= at:
                # 409 without progress: somebody else is writing to it
                failures += 1
                if failures >= TRIES or status not in (204, 409):
                    _usable(status, data)
                    raise LinguadError(f"the hub took nothing of {file}; begin the upload again")
                time.sleep(PAUSE_SECONDS)
            step(max(0, now - at))

    def _offset(self, path: str) -> int:
        status, headers, _ = self._request("HEAD", path, b"", {})
        if status != 200:
            raise LinguadError(f"the hub answered {status} about the upload; begin it again")
        return int(headers["upload-offset"])

    def _request(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        connection = self._kind(self._host, self._port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, self._base + path, body, {**self._headers, **headers})
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, told, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise LinguadError(f"no answer from {self.url}: {error}; is the hub running there?") from error
        finally:
            connection.close()


def hash_file(path: Path, step: Step) -> str:
    """SHA-256 in hex. Raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1024 * 1024):
            digest.update(block)
            step(len(block))
    return digest.hexdigest()


def _usable(status: int, data: bytes) -> Any:
    try:
        told = json.loads(data) if data else None
    except ValueError as error:
        raise LinguadError(f"the answer ({status}) is no JSON; is this the address of a hub?") from error
    if status < 400:
        return told
    if status == 401:
        raise LinguadError(
            "the key is wrong or missing; give it with --token or in $LINGUAD_SERVER__ADMIN_TOKEN"
        )
    detail = told.get("detail", "") if isinstance(told, dict) else ""
    reasons = (told.get("error") or {}).get("details") if isinstance(told, dict) else None
    listed = (
        [f"{one.get('field')}: {one.get('reason')}" for one in reasons] if isinstance(reasons, list) else []
    )
    raise LinguadError("; ".join([str(detail) or f"the hub answered {status}", *listed]))
