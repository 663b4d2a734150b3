"""The engines that ask the original's services, against a played one on a real socket."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from linguad.errors import EngineError
from linguad.worker.engines import HTTP, create
from linguad.worker.engines.base import Kind, Recognise, Speak, Speech, Text, Translate, Work
from linguad.worker.process import probe

WORK: dict[str, Work] = {
    "http-asr": Recognise(b"\1\0" * 160, "zh"),
    "http-nmt": Translate("你好", "zh", "en"),
    "http-tts": Speak("hello", "en"),
}
VARIABLES = {name: f"LINGUAD_{name.upper().replace('-', '_')}" for name in HTTP}


def sound(channels: int = 1) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(22_050)
        file.writeframes(b"\2\0" * 100)
    return out.getvalue()


class Services:
    """All three services on one port, as the original's answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, tuple[int, bytes]] = {
            "/health": (200, b'{"status":"ok"}'),
            "/utterance": (200, json.dumps({"text": " 你好 ", "language": "zh", "duration": 0.01}).encode()),
            "/v1/translate": (200, json.dumps({"ok": True, "text": "hello"}).encode()),
            "/tts": (200, sound()),
        }
        services = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                self.do_POST()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                services.asked.append((self.path, json.loads(body or b"{}")))
                status, answer = services.answers[self.path]
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    with running() as services:
        for variable in VARIABLES.values():
            monkeypatch.setenv(variable, services.url)
        yield services


@contextmanager
def running() -> Iterator[Services]:
    services = Services()
    thread = threading.Thread(target=services.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield services
    finally:
        services.server.shutdown()
        thread.join()
        services.server.server_close()


def test_recognition(services: Services) -> None:
    engine = create("http-asr")
    assert (engine.kind, engine.probe(), engine.languages(), engine.pairs()) == (
        Kind.ASR,
        None,
        ["en", "zh"],
        [],
    )
    assert engine.run(WORK["http-asr"]) == Text("你好")
    path, asked = services.asked[-1]
    assert path == "/utterance"
    assert (asked["audio_format"], asked["sample_rate"], asked["src_lang"]) == ("pcm16", 16_000, "zh")
    assert base64.b64decode(asked["audio"]) == b"\1\0" * 160
    assert asked["use_context_buffer"] is False


def test_translation(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGUAD_HTTP_NMT_LANGUAGES", "zh, en ,ja")
    engine = create("http-nmt")
    assert (engine.kind, engine.languages(), len(engine.pairs())) == (Kind.NMT, [], 6)
    assert ("zh", "ja") in engine.pairs()
    assert engine.run(WORK["http-nmt"]) == Text("hello")
    assert services.asked[-1] == ("/v1/translate", {"text": "你好", "src_lang": "zh", "tgt_lang": "en"})


def test_speech(services: Services) -> None:
    engine = create("http-tts")
    assert engine.run(WORK["http-tts"]) == Speech(b"\2\0" * 100, 22_050)
    assert services.asked[-1][1] == {"text": "hello", "language": "en", "voice": "en_US-lessac-medium"}


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.parametrize(
    ("status", "answer", "why"),
    [
        (500, b"", "answers 500"),
        (200, b"", "answers with"),
        (200, b'{"text": 1}', "answers with"),
        (200, sound(channels=2), "mono|without a text"),
    ],
)
def test_a_service_that_fails_fails_its_request(
    services: Services, name: str, status: int, answer: bytes, why: str
) -> None:
    for path in ("/utterance", "/v1/translate", "/tts"):
        services.answers[path] = status, answer
    with pytest.raises(EngineError, match=why if name == "http-tts" else f"{why}|text"):
        create(name).run(WORK[name])


@pytest.mark.parametrize("name", HTTP)
def test_an_engine_does_its_own_work_only(services: Services, name: str) -> None:
    other = next(work for kind, work in WORK.items() if kind != name)
    with pytest.raises(EngineError, match="something else"):
        create(name).run(other)


@pytest.mark.parametrize("name", HTTP)
def test_what_speaks_no_http_fails_its_request(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv(VARIABLES[name], f"http://127.0.0.1:{server.getsockname()[1]}")

        def answer() -> None:
            for _ in range(2):
                stream, _ = server.accept()
                with stream:
                    stream.recv(1 << 16)
                    stream.sendall(b"what?\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        engine = create(name)
        assert "no service answers" in (engine.probe() or "")
        with pytest.raises(EngineError, match="does not answer"):
            engine.run(WORK[name])
        thread.join()


async def test_what_does_not_run_is_told_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGUAD_HTTP_ASR", "http://127.0.0.1:1")
    hello = await probe("http-asr")
    assert hello.problem is not None
    assert "no service answers at http://127.0.0.1:1" in hello.problem
    assert "set LINGUAD_HTTP_ASR" in hello.problem
    with pytest.raises(EngineError, match="does not answer"):
        create("http-asr").run(WORK["http-asr"])
