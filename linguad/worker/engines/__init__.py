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


OPTIONAL = ("http-asr", "http-nmt", "http-tts")
"""Engines that are used only where they are named: they ask services that run beside the node."""


class Need(NamedTuple):
    """A model of the hub that an engine works with, and what it serves then."""

    model_id: str
    kind: Kind
    languages: list[str]


NEEDS = {"pocketsphinx": Need("pocketsphinx-en-us", Kind.ASR, ["en"])}
"""Engines that take their model from the hub, if the node is told of one."""


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
        case "http-asr" | "http-nmt" | "http-tts":
            from linguad.worker.engines.http_service import HttpService

            return HttpService(name)
        case _:
            raise EngineError(f"there is no engine {name!r}; there are {', '.join((*ENGINES, *OPTIONAL))}")
