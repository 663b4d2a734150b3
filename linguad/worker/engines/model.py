"""What engines with a model of a hub have in common; imported in their processes only."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path


def lacking(name: str, model: Path | None, patterns: Iterable[str]) -> str | None:
    """None if a directory has a file for each pattern, else one sentence with the cure."""
    if model is None:
        return f"{name} takes its model from a hub; give --hub or set $MODEL_HUB_URL"
    missing = [pattern for pattern in patterns if next(model.glob(pattern), None) is None]
    if missing:
        return f"{model} is no model of {name}: it lacks {', '.join(missing)}"
    return None


def best_device() -> str:
    """`gpu` if CTranslate2 can use one here, else `cpu`."""
    if find_spec("ctranslate2") is None:
        return "cpu"
    import ctranslate2

    return "gpu" if ctranslate2.get_cuda_device_count() else "cpu"
