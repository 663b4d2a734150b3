"""What a node says about its models when it registers and with its heartbeats (model-manager 8.1)."""

from __future__ import annotations

from linguad.models.manager import ModelManager
from linguad.models.names import Key, by_age
from linguad.models.registry import Record, Status
from linguad.wire.node import InstalledModel

_KINDS = ("asr", "nmt", "tts", "emotion")
_GUESSES = (
    ("asr", ("whisper", "sphinx", "asr", "vosk")),
    ("nmt", ("m2m", "nllb", "marian", "opus-mt", "nmt")),
    ("tts", ("piper", "tts", "voice")),
    ("emotion", ("emotion",)),
)


def inventory(manager: ModelManager) -> list[InstalledModel]:
    """Every installed version, from memory and without the hub."""
    return [
        _entry(model_id, version, record)
        for model_id, versions in sorted(manager.installed().items())
        for version, record in versions.items()
    ]


def _entry(model_id: str, version: str, record: Record) -> InstalledModel:
    languages = [code for code in record.extra.languages if code]
    return InstalledModel(
        model_id=model_id,
        kind=_kind(model_id, record.extra.task),
        src_lang=languages[0] if languages else None,
        tgt_lang=languages[1] if len(languages) > 1 else None,
        version=version,
        enabled=record.status is Status.READY,
    )


def _kind(model_id: str, task: str | None) -> str:
    if task:
        return task if task in _KINDS else "other"
    lowered = model_id.lower()
    return next((kind for kind, words in _GUESSES if any(word in lowered for word in words)), "other")


def capability_state(manager: ModelManager) -> dict[str, str]:
    """Model id → ready, downloading, not_installed or error, for all models of the hub's last list and here.

    A hub that is away changes nothing. Judged by the active version, else the hub's default if it is here,
    else the newest that is.
    """
    states = {model.id: "not_installed" for model in manager.hub.known}
    defaults = {model.id: model.default_version for model in manager.hub.known}
    for model_id, versions in manager.installed().items():
        pointer = manager.active().get(model_id)
        chosen = pointer.version if pointer else defaults.get(model_id)
        if chosen not in versions:
            chosen = max(versions, key=by_age)
        states[model_id] = manager.status(Key(model_id, chosen))
    for one in manager.running:
        if states.get(one.model_id) != "ready":
            states[one.model_id] = "downloading"
    return states
