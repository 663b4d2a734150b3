"""What every daemon of these tests is checked for at its end would be found."""

from __future__ import annotations

from base64 import b64encode

import pytest
import secrecy
from conftest import Start

KEY = "lk_live_abcdefghij23_" + "x" * 43


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        KEY.replace("live", "test"),
        "tk_" + "a-_0" * 11,
        "whsec_" + "b" * 43,
        '{"text": "heard 0"}',
        "oído 12",
        "o\\u00eddo 0",
        b64encode(bytes(range(256))).decode(),
        "a key of my own",
    ],
)
def test_what_is_found(text: str) -> None:
    around = f'{{"event": "api_request", "told": "{text}", "status": 200}}'.encode()
    assert secrecy.leaks([("log", around)], ["a key of my own"])


def test_what_is_harmless() -> None:
    line = b'{"event": "stream_closed", "key_id": "abcdefghij23", "prefix": "lk_live_abcdefgh", "task_id": 1}'
    assert secrecy.leaks([("log", line)], ["", "short"]) == []


async def test_a_daemon_that_tells_is_found_out(start: Start) -> None:
    daemon = start()
    api = await daemon.gateway()
    reply = await api.call("GET", "/v1/me", key=KEY)
    assert reply.status == 401
    daemon.stop()
    assert daemon.leaks() == []
    for kept in (daemon.lines, daemon.complaints):
        kept.append(f"who is {KEY}?")
        (found,) = daemon.leaks()[:1]
        assert found.startswith("its log: a key")
        kept.pop()
    api.errors.append(("GET /", b'{"error": "heard 0"}'))
    assert daemon.leaks() == ["GET /: text of speech (heard 0…)"]
    api.errors.clear()
    for name in ("linguad.log", "state/linguad.db-journal"):
        path = daemon.directory / name
        path.write_text(api.key)
        assert daemon.leaks()
        path.unlink()
