"""Commands that ask a server: what they say when it is none, or ends in the middle of its answer."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from contextlib import closing
from threading import Thread

import pytest

from linguad import cli
from linguad.ops.gauges import GAUGES

PATIENCE_S = 60.0

SSH = b"SSH-2.0-x\r\n"
CUT_OFF = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"
CUT_OFF_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\ndata: {}"
NO_EVENT = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
NO_JSON = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def answered(command: Sequence[str], *answers: bytes) -> int:
    """The exit code of a command whose requests are answered so, one after the other."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        listening.settimeout(PATIENCE_S)

        def serve() -> None:
            for answer in answers:
                connection, _ = listening.accept()
                with closing(connection):
                    connection.recv(10_000)
                    connection.sendall(answer)

        server = Thread(target=serve)
        server.start()
        try:
            return cli.main([*command, "--server", f"http://127.0.0.1:{listening.getsockname()[1]}"])
        finally:
            server.join(PATIENCE_S)


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (["trace", "x"], SSH),
        (["trace", "x"], CUT_OFF),
        (["trace", "x"], CUT_OFF_CHUNK),
        (["trace", "x"], NO_JSON),
        (["top", "--once"], SSH),
        (["top", "--once"], CUT_OFF_CHUNK),
        (["top", "--once"], NO_EVENT),
    ],
)
def test_what_is_no_answer_is_told_in_a_line(
    command: list[str], answer: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answered(command, answer) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("linguad: ")
    assert said.err.count("\n") == 1
    assert "http://127.0.0.1:" in said.err


def test_top_asks_again_when_a_stream_ends(capsys: pytest.CaptureFixture[str]) -> None:
    overview = {
        "state": {"ready": True, "reasons": [], "degraded": []},
        "facts": {"version": "1.2.3", "uptime_seconds": 60.0},
        "gauges": dict.fromkeys(GAUGES, 0),
        "stages": {},
        "pairs": [],
        "waiting": [],
        "failing": [],
    }
    event = f"data: {json.dumps(overview)}\n\n".encode()
    stream = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(event), event)
    assert answered(["top"], stream, stream, NO_EVENT) == 1
    assert "tells nothing" in capsys.readouterr().err
