"""The original's running services as engines: recognition, translation and speech over HTTP.

A node on a machine where faster-whisper-vad, nmt-m2m100 and piper-tts run serves what they serve. Each
service is one engine, asked one thing at a time; how it is started is not the node's business.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import urllib.error
import urllib.request
import wave
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from linguad.errors import EngineError
from linguad.wire.language import normalize
from linguad.worker.engines.base import (
    Engine,
    Kind,
    Pair,
    Recognise,
    Result,
    Speak,
    Speech,
    Text,
    Translate,
    Work,
)

PROBE_SECONDS = 2.0
"""A service on the same machine says at once that it lives."""

ANSWER_SECONDS = 60.0
"""The node's own deadline for an engine is as long."""

MAX_ANSWER_BYTES = 64 << 20
"""More than the longest speech; more than this is no answer."""

RATE = 16_000
"""Sample rate of what is recognised, Hz."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service as the original installs it, and where a user says that it is elsewhere."""

    kind: Kind
    variable: str
    """Environment variable with its address; the same name + `_LANGUAGES` names what it serves."""
    address: str
    path: str


SERVICES = {
    "http-asr": Service(Kind.ASR, "LINGUAD_HTTP_ASR", "http://127.0.0.1:6007", "/utterance"),
    "http-nmt": Service(Kind.NMT, "LINGUAD_HTTP_NMT", "http://127.0.0.1:5008", "/v1/translate"),
    "http-tts": Service(Kind.TTS, "LINGUAD_HTTP_TTS", "http://127.0.0.1:5006", "/tts"),
}
"""faster-whisper-vad, nmt-m2m100 and piper-tts, by the name of the engine that asks them."""

LANGUAGES = "zh,en"
"""What all three serve as the original ships them."""

_VOICES = {"zh": "zh_CN-huayan-medium", "en": "en_US-lessac-medium"}
"""Voices that the original installs; another language is left to the service."""


class HttpService(Engine):
    """As fast as its service."""

    device = "gpu"

    def __init__(self, name: str) -> None:
        self._service = SERVICES[name]
        self._address = os.environ.get(self._service.variable, self._service.address).rstrip("/")

    @property
    def kind(self) -> Kind:  # type: ignore[override] # one class for three kinds
        """What its service does."""
        return self._service.kind

    def probe(self) -> str | None:
        try:
            with urllib.request.urlopen(f"{self._address}/health", timeout=PROBE_SECONDS):
                return None
        except (OSError, HTTPException, ValueError) as error:
            why = getattr(error, "reason", error)
            return (
                f"no service answers at {self._address} ({why}); start it, or set "
                f"{self._service.variable} to its address"
            )

    def languages(self) -> list[str]:
        named = os.environ.get(f"{self._service.variable}_LANGUAGES", LANGUAGES)
        return [] if self.kind is Kind.NMT else _codes(named)

    def pairs(self) -> list[Pair]:
        named = os.environ.get(f"{self._service.variable}_LANGUAGES", LANGUAGES)
        return list(itertools.permutations(_codes(named), 2)) if self.kind is Kind.NMT else []

    def run(self, request: Work) -> Result:
        if isinstance(request, Recognise) and self.kind is Kind.ASR:
            return Text(_text(self._ask(_utterance(request))))
        if isinstance(request, Translate) and self.kind is Kind.NMT:
            asked = {"text": request.text, "src_lang": request.source, "tgt_lang": request.target}
            return Text(_text(self._ask(asked)))
        if isinstance(request, Speak) and self.kind is Kind.TTS:
            asked = {"text": request.text, "language": request.language}
            voice = _VOICES.get(normalize(request.language))
            return _speech(self._ask(asked | ({"voice": voice} if voice else {})))
        raise EngineError(f"the service at {self._address} was asked for something else than it does")

    def _ask(self, body: dict[str, Any]) -> bytes:
        """What the service answers. Raises EngineError."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(
            self._address + self._service.path, json.dumps(body).encode(), headers, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
                answer: bytes = response.read(MAX_ANSWER_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                raise EngineError(f"the service at {self._address} answers {error.code}") from error
        except (OSError, HTTPException) as error:
            why = getattr(error, "reason", error)
            raise EngineError(f"the service at {self._address} does not answer: {why}") from error
        if len(answer) > MAX_ANSWER_BYTES:
            raise EngineError(f"the service at {self._address} answers with too much")
        return answer


def _codes(text: str) -> list[str]:
    return sorted({normalize(code) for code in text.split(",") if code.strip()})


def _utterance(request: Recognise) -> dict[str, Any]:
    """A whole utterance without memory of earlier ones, which belong to other sessions."""
    return {
        "job_id": "linguad",
        "src_lang": request.language,
        "audio": base64.b64encode(request.pcm16).decode(),
        "audio_format": "pcm16",
        "sample_rate": RATE,
        "task": "transcribe",
        "condition_on_previous_text": False,
        "use_context_buffer": False,
        "use_text_context": False,
    }


def _text(answer: bytes) -> str:
    try:
        text = json.loads(answer)["text"]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"the service answers without a text: {error!r}") from error
    if not isinstance(text, str):
        raise EngineError("the service answers with a text that is none")
    return text.strip()


def _speech(answer: bytes) -> Speech:
    """Mono PCM16 out of a WAV file."""
    try:
        with wave.open(io.BytesIO(answer)) as sound:
            if (sound.getsampwidth(), sound.getnchannels()) != (2, 1):
                raise EngineError("the service speaks in another form than mono PCM16")
            return Speech(sound.readframes(sound.getnframes()), sound.getframerate())
    except (wave.Error, EOFError) as error:
        raise EngineError(f"the service answers with something else than WAV: {error}") from error
