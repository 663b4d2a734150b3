"""The engines of the reference node: one file each, one small class each.

To add one, write its file and name it in ENGINES and `create`. Only an engine's own process imports its file.
"""

from __future__ import annotations

from linguad.errors import EngineError
from linguad.worker.engines.base import Engine

ENGINES = ("pocketsphinx", "apertium", "espeak")
"""All of them, the preferred ones first; `echo` (engines/echo.py) is none, it stands in for all."""


def create(name: str) -> Engine:
    """The engine of that name, not yet loaded. Raises EngineError if there is none."""
    match name:
        case "pocketsphinx":
            from linguad.worker.engines.pocketsphinx import PocketSphinx

            return PocketSphinx()
        case "apertium":
            from linguad.worker.engines.apertium import Apertium

            return Apertium()
        case "espeak":
            from linguad.worker.engines.espeak import Espeak

            return Espeak()
        case _:
            raise EngineError(f"there is no engine {name!r}; there are {', '.join(ENGINES)}")
