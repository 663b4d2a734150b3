"""metadata.json: what an operator wrote about models, in the present or the old form (model-hub 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct


class Described(Struct, frozen=True, kw_only=True):
    """What metadata.json says about one model."""

    name: str | None = None
    task: str | None = None
    languages: tuple[str, ...] | None = None
    default: str | None = None
    channels: Mapping[str, str] = {}
    deprecated: frozenset[str] = frozenset()
    versions: tuple[str, ...] = ()
    """Every version it names; those that are not on the disk are problems."""


class _Model(Struct):
    id: str
    name: str | None = None
    task: str | None = None
    languages: list[str] | None = None
    default_version: str | None = None
    versions: list[dict[str, Any]] = []


class _Old(Struct):
    model_id: str
    name: str | None = None
    model_type: str = "asr"
    version: str = "1.0.0"
    src_lang: str | None = None
    tgt_lang: str | None = None
    status: str | None = None


def read_metadata(data: bytes) -> tuple[dict[str, Described], list[str]]:
    """What is said by model id, and what could not be used of it; a bad entry never spoils the others."""
    problems: list[str] = []
    try:
        whole = msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"))
    except msgspec.DecodeError as error:
        return {}, [f"it is no JSON: {error}"]
    if isinstance(whole, dict) and isinstance(whole.get("models"), list):
        return _present(whole["models"], problems), problems
    if isinstance(whole, list):
        return _old(whole, problems), problems
    return {}, ["it is neither a list nor an object with a list `models`"]


def _present(entries: list[object], problems: list[str]) -> dict[str, Described]:
    found = {}
    for number, entry in enumerate(entries):
        try:
            model = msgspec.convert(entry, _Model, strict=False)
        except msgspec.ValidationError as error:
            problems.append(f"models[{number}]: {error}")
            continue
        found[model.id] = Described(
            name=model.name,
            task=model.task.lower() if model.task else None,
            languages=_languages(model.languages),
            default=model.default_version,
            versions=tuple(str(version["version"]) for version in model.versions if "version" in version),
        )
    return found


def _old(entries: list[object], problems: list[str]) -> dict[str, Described]:
    by_id: dict[str, list[_Old]] = {}
    for number, entry in enumerate(entries):
        try:
            record = msgspec.convert(entry, _Old, strict=False)
        except msgspec.ValidationError as error:
            problems.append(f"[{number}]: {error}")
            continue
        by_id.setdefault(record.model_id, []).append(record)
    return {name: _joined(records) for name, records in by_id.items()}


def _joined(records: list[_Old]) -> Described:
    first = records[0]
    channels: dict[str, str] = {}
    for record in records:
        status = (record.status or "").lower()
        if status in ("stable", "beta"):
            channels.setdefault(status, record.version)
    return Described(
        name=first.name,
        task=first.model_type.lower() or None,
        languages=_languages([first.src_lang or "", first.tgt_lang or ""]),
        default=first.version,
        channels=channels,
        deprecated=frozenset(
            record.version for record in records if (record.status or "").lower() == "deprecated"
        ),
        versions=tuple(record.version for record in records),
    )


def _languages(given: list[str] | None) -> tuple[str, ...] | None:
    kept = tuple(language for language in given or () if language)
    return kept or None
