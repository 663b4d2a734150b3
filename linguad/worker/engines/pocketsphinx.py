"""English speech recognition by PocketSphinx, with the model that its package brings or one of the hub."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from linguad.errors import EngineError
from linguad.worker.engines.base import Engine, Kind, Recognise, Text, Work

if TYPE_CHECKING:
    import pocketsphinx

RATE = 16_000
"""Sample rate of the model, Hz."""

FRAME_SECONDS = 0.03
"""What the voice detector judges at a time."""

MIN_SPEECH_FRAMES = 3
"""Voiced frames below which nothing was said: the decoder hears a word even in digital silence."""

_STRICTEST = 3
"""Mode of the voice detector that takes the least noise for speech; whole words pass it well."""


class PocketSphinx(Engine):
    """About 0.4 s of one core per second of speech."""

    kind = Kind.ASR

    def __init__(self, model: Path | None = None) -> None:
        self._model = model
        self._decoder: pocketsphinx.Decoder | None = None

    def probe(self) -> str | None:
        if find_spec("pocketsphinx") is None:
            return "the package pocketsphinx is not installed; pip install 'linguad[engines]'"
        if self._model is not None and len(_parts(self._model)) < len(_PARTS):
            return f"{self._model} is no model of pocketsphinx: it lacks one of {', '.join(_PARTS.values())}"
        return None

    def version(self) -> str:
        return metadata.version("pocketsphinx")

    def languages(self) -> list[str]:
        return ["en"]

    def load(self) -> None:
        import pocketsphinx

        files = {} if self._model is None else _parts(self._model)
        try:
            self._decoder = pocketsphinx.Decoder(samprate=RATE, loglevel="FATAL", **files)
        except RuntimeError as error:
            raise EngineError(f"pocketsphinx cannot use its model: {error}") from error

    def run(self, request: Work) -> Text:
        if not isinstance(request, Recognise) or self._decoder is None:
            raise EngineError("pocketsphinx was asked for something else than to recognise speech")
        if not _holds_speech(request.pcm16):
            return Text("")
        self._decoder.start_utt()
        self._decoder.process_raw(request.pcm16, full_utt=True)
        self._decoder.end_utt()
        guess = self._decoder.hyp()
        return Text(guess.hypstr if guess else "")


_PARTS = {"hmm": "mdef", "lm": "*[!e].lm.bin", "dict": "*.dict"}
"""What a model consists of, and by which file it is found; the phone model, `*-phone.lm.bin`, is not it."""


def _parts(model: Path) -> dict[str, str]:
    """The files of a model, by the decoder's name for them; as far as they are there."""
    found = {part: next(iter(sorted(model.rglob(pattern))), None) for part, pattern in _PARTS.items()}
    return {
        part: str(path.parent if part == "hmm" else path) for part, path in found.items() if path is not None
    }


def _holds_speech(pcm16: bytes) -> bool:
    import pocketsphinx

    # A new one each time, because it takes silence for speech for a while after speech.
    voice = pocketsphinx.Vad(mode=_STRICTEST, sample_rate=RATE, frame_length=FRAME_SECONDS)
    size, voiced = voice.frame_bytes, 0
    for start in range(0, len(pcm16) - size + 1, size):
        voiced += voice.is_speech(pcm16[start : start + size])
        if voiced >= MIN_SPEECH_FRAMES:
            return True
    return False
