"""Speech recognition by Whisper on CTranslate2, on a GPU where there is one, with a model of a hub."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from linguad.errors import EngineError
from linguad.wire.language import normalize
from linguad.worker.engines.base import Engine, Kind, Recognise, Text, Work
from linguad.worker.engines.model import best_device, lacking

FILES = ("model.bin", "config.json", "tokenizer.json")
"""What a model must have. Without tokenizer.json the package would fetch one from the internet."""

BEAM = 5
"""Guesses followed at once, as the original's service does."""


class FasterWhisper(Engine):
    """Knows all languages of its model. Whole utterances, without memory of earlier ones."""

    kind = Kind.ASR
    device = best_device()

    def __init__(self, model: Path | None = None) -> None:
        self._directory = model
        self._model: Any = None

    def probe(self) -> str | None:
        if find_spec("faster_whisper") is None:
            return "the package faster-whisper is not installed; pip install 'linguad[faster-whisper]'"
        return lacking("faster-whisper", self._directory, FILES)

    def version(self) -> str:
        return metadata.version("faster-whisper")

    def languages(self) -> list[str]:
        from faster_whisper.tokenizer import _LANGUAGE_CODES

        return sorted({normalize(code) for code in _LANGUAGE_CODES})

    def load(self) -> None:
        from faster_whisper import WhisperModel

        where = "cuda" if self.device == "gpu" else "cpu"
        try:
            self._model = WhisperModel(str(self._directory), device=where, local_files_only=True)
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineError(f"faster-whisper cannot use its model: {error}") from error

    def run(self, request: Work) -> Text:
        if not isinstance(request, Recognise) or self._model is None:
            raise EngineError("faster-whisper was asked for something else than to recognise speech")
        import numpy as np

        samples = np.frombuffer(request.pcm16, "<i2").astype(np.float32) / 32768
        if not samples.size:
            return Text("")
        try:
            segments, _ = self._model.transcribe(
                samples,
                language=normalize(request.language),
                beam_size=BEAM,
                vad_filter=True,
                condition_on_previous_text=False,
            )
            return Text("".join(segment.text for segment in segments).strip())
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"faster-whisper failed: {error}") from error
