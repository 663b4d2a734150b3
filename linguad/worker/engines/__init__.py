"""The engines of the reference node: one file each, one small class each.

To add one, write its file and name it in ENGINES and `create`. Only an engine's own process imports its file.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from linguad.errors import EngineError
from linguad.worker.engines.base import Engine, Kind

ENGINES = ("pocketsphinx", "apertium", "espeak")
"""All of them, the preferred ones first; `echo` (engines/echo.py) is none, it stands in for all."""


HTTP = ("http-asr", "http-nmt", "http-tts")
"""Engines that ask services that run beside the node."""

OPTIONAL = ("faster-whisper", "m2m100", "piper", *HTTP)
"""Engines that are used only where they are named; the first three are for machines with a GPU."""


class Need(NamedTuple):
    """A model of the hub that an engine works with, and what it serves then."""

    model_id: str
    kind: Kind
    languages: list[str]


NEEDS = {
    "pocketsphinx": Need("pocketsphinx-en-us", Kind.ASR, ["en"]),
    "faster-whisper": Need("faster-whisper", Kind.ASR, ["en", "zh"]),
    "m2m100": Need("m2m100", Kind.NMT, ["en", "zh"]),
    "piper": Need("piper-voices", Kind.TTS, ["en", "zh"]),
}
"""Engines that take their model from the hub, if the node is told of one. The languages are what they are
expected to serve; once the model is here it says so itself."""


def create(name: str, model: Path | None = None) -> Engine:
    """The engine of that name, not yet loaded; `model` is the directory of its model, if it is given one.

    Raises EngineError if there is no such engine.
    """
    match name:
        case "pocketsphinx":
            from linguad.worker.engines.pocketsphinx import PocketSphinx

            return PocketSphinx(model)
        case "apertium":
            from linguad.worker.engines.apertium import Apertium

            return Apertium()
        case "espeak":
            from linguad.worker.engines.espeak import Espeak

            return Espeak()
        case "faster-whisper":
            from linguad.worker.engines.faster_whisper import FasterWhisper

            return FasterWhisper(model)
        case "m2m100":
            from linguad.worker.engines.m2m100 import M2M100

            return M2M100(model)
        case "piper":
            from linguad.worker.engines.piper import Piper

            return Piper(model)
        case "http-asr" | "http-nmt" | "http-tts":
            from linguad.worker.engines.http_service import HttpService

            return HttpService(name)
        case _:
            raise EngineError(f"there is no engine {name!r}; there are {', '.join((*ENGINES, *OPTIONAL))}")
