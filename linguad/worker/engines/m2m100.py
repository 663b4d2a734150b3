"""Translation by M2M100 on CTranslate2, on a GPU where there is one, with a model of a hub."""

from __future__ import annotations

import itertools
import json
import os
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from linguad.errors import EngineError
from linguad.wire.language import normalize
from linguad.worker.engines.base import Engine, Kind, Pair, Text, Translate, Work
from linguad.worker.engines.model import best_device, lacking

FILES = ("model.bin", "shared_vocabulary.*", "sentencepiece*.model")
"""What a model must have: CTranslate2's files, and the pieces that texts are cut into."""

VARIABLE = "LINGUAD_M2M100_LANGUAGES"
LANGUAGES = "zh,en"
"""Served unless the variable names others: all hundred would be ten thousand pairs to tell the scheduler."""

MAX_PIECES = 1024
"""Positions of the model; longer texts cannot be translated."""

BEAM = 4


class M2M100(Engine):
    """Translates between all its languages."""

    kind = Kind.NMT
    device = best_device()

    def __init__(self, model: Path | None = None) -> None:
        self._directory = model
        self._translator: Any = None
        self._pieces: Any = None

    def probe(self) -> str | None:
        missing = [name for name in ("ctranslate2", "sentencepiece") if find_spec(name) is None]
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            return f"{' and '.join(missing)} {verb} not installed; pip install 'linguad[m2m100]'"
        problem = lacking("m2m100", self._directory, FILES)
        if problem is None and len(self._served()) < 2:
            return f"{self._directory} has fewer than two of the languages {_wanted()}; set {VARIABLE}"
        return problem

    def version(self) -> str:
        return metadata.version("ctranslate2")

    def pairs(self) -> list[Pair]:
        return list(itertools.permutations(self._served(), 2))

    def load(self) -> None:
        import ctranslate2
        import sentencepiece

        assert self._directory is not None, "probed"
        where = "cuda" if self.device == "gpu" else "cpu"
        try:
            self._translator = ctranslate2.Translator(str(self._directory), device=where)
            self._pieces = sentencepiece.SentencePieceProcessor(
                model_file=str(next(self._directory.glob(FILES[2])))
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineError(f"m2m100 cannot use its model: {error}") from error

    def run(self, request: Work) -> Text:
        if not isinstance(request, Translate) or self._translator is None:
            raise EngineError("m2m100 was asked for something else than to translate")
        source, target = normalize(request.source), normalize(request.target)
        pieces = self._pieces.encode(request.text, out_type=str)
        if not pieces:
            return Text("")
        if len(pieces) > MAX_PIECES - 2:
            raise EngineError(f"a text of {len(request.text)} characters is too long for m2m100")
        mark = _mark(target)
        try:
            (result,) = self._translator.translate_batch(
                [[_mark(source), *pieces, "</s>"]], target_prefix=[[mark]], beam_size=BEAM
            )
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"m2m100 failed: {error}") from error
        said = result.hypotheses[0]
        return Text(self._pieces.decode(said[1:] if said[:1] == [mark] else said).strip())

    def _served(self) -> list[str]:
        """Languages that are wanted and that the model has."""
        assert self._directory is not None, "probed"
        path = next(self._directory.glob(FILES[1]))
        try:
            text = path.read_text(encoding="utf-8")
            words = set(json.loads(text) if path.suffix == ".json" else text.splitlines())
        except (OSError, ValueError, TypeError):
            return []
        return [code for code in _wanted() if _mark(code) in words]


def _wanted() -> list[str]:
    named = os.environ.get(VARIABLE, LANGUAGES)
    return sorted({normalize(code) for code in named.split(",") if code.strip()})


def _mark(code: str) -> str:
    """The piece by which the model knows a language."""
    return f"__{code}__"
