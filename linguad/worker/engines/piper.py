"""Speech synthesis by Piper, with the voices of a hub's model: files NAME.onnx and NAME.onnx.json."""

from __future__ import annotations

import json
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from linguad.errors import EngineError
from linguad.wire.language import normalize
from linguad.worker.engines.base import Engine, Kind, Speak, Speech, Work
from linguad.worker.engines.model import lacking

FILES = ("**/*.onnx", "**/*.onnx.json")
"""What a model must have: a voice and its description."""

MAX_TEXT_CHARS = 10_000
"""A quarter of an hour of speech, more than any utterance."""


class Piper(Engine):
    """One voice for each language, the first by name; a voice is read when it first speaks."""

    kind = Kind.TTS

    def __init__(self, model: Path | None = None) -> None:
        self._directory = model
        self._voices: dict[str, Any] = {}

    def probe(self) -> str | None:
        if find_spec("piper") is None:
            return "the package piper-tts is not installed; pip install 'linguad[piper]'"
        problem = lacking("piper", self._directory, FILES)
        if problem is None and not self._paths():
            return f"{self._directory} is no model of piper: no voice says its language"
        return problem

    def version(self) -> str:
        return metadata.version("piper-tts")

    def languages(self) -> list[str]:
        return sorted(self._paths())

    def load(self) -> None:
        for language in self._paths():
            self._voice(language)

    def run(self, request: Work) -> Speech:
        if not isinstance(request, Speak):
            raise EngineError("piper was asked for something else than to speak")
        if len(request.text) > MAX_TEXT_CHARS:
            raise EngineError(f"a text of {len(request.text)} characters is too long to be spoken")
        voice = self._voice(normalize(request.language))
        rate = int(voice.config.sample_rate)
        try:
            return Speech(b"".join(part.audio_int16_bytes for part in voice.synthesize(request.text)), rate)
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"piper failed: {error}") from error

    def _voice(self, language: str) -> Any:
        if language not in self._voices:
            from piper import PiperVoice

            path = self._paths().get(language)
            if path is None:
                raise EngineError(f"piper has no voice for {language}")
            try:
                self._voices[language] = PiperVoice.load(str(path))
            except (RuntimeError, ValueError, OSError, KeyError, TypeError) as error:
                raise EngineError(f"piper cannot use {path.name}: {error}") from error
        return self._voices[language]

    def _paths(self) -> dict[str, Path]:
        """The voice of each language."""
        assert self._directory is not None, "probed"
        found: dict[str, Path] = {}
        for path in sorted(self._directory.glob(FILES[0])):
            try:
                said = json.loads(path.with_name(f"{path.name}.json").read_bytes())
                code = said.get("language", {}).get("family") or said["espeak"]["voice"]
                found.setdefault(normalize(code.partition("-")[0]), path)
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
        return found
