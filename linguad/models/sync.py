"""Keep what a policy asks for as the hub has it (model-manager 11)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import trio

from linguad.files import replace_file
from linguad.models.catalog import SyncAnswer
from linguad.models.errors import InsufficientSpaceError, InUseError, ModelError, ModelNotAvailableError
from linguad.models.manager import ModelManager
from linguad.models.names import Key, key
from linguad.models.registry import Status

Check = Callable[[Path], Awaitable[bool]]
"""Whether a version works, given its directory."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be here; sizes in bytes."""

    required: list[str] = []
    """Models that are to be installed and kept up to date."""
    channels: dict[str, str] = {}
    """Model → channel or version to follow; without one the hub's default."""
    max_bytes: int | None = None
    """All installed versions together may take so much."""
    keep: int = 2
    """Versions of a model that are not pruned."""


class Report(msgspec.Struct, kw_only=True):
    """What a run changed; versions as `id@version`."""

    installed: list[str] = []
    updated: list[str] = []
    removed: list[str] = []
    failed: dict[str, str] = {}
    """Model → the reason, with the cure."""
    bytes: int = 0
    """Size of what was installed."""


async def sync(manager: ModelManager, policy: Policy) -> Report:
    """Install and change over to what the policy asks for, then prune; safe to interrupt at any point.

    One model's failure does not keep the others from being had. Raises NetworkError and HubProtocolError if
    the hub cannot even be asked what is new.
    """
    report = Report()
    cursor_file = manager.layout.models / "sync.json"
    asked = {"hub": manager.hub.url, "channels": json.dumps(policy.channels, sort_keys=True)}
    news = await manager.hub.news(await trio.to_thread.run_sync(_cursor, cursor_file, asked))
    changed = {model.id for model in news.models}
    for model_id in policy.required:
        try:
            if news.full or model_id in changed or not _is_here(manager, model_id):
                await _bring(manager, policy, model_id, report)
        except ModelError as error:
            report.failed[model_id] = str(error)
    await _take_away(manager, news, report)
    report.removed += [str(one) for one in await manager.keeper.prune(policy.keep)]
    if news.cursor and not report.failed:
        # With a failure the same news are wanted once more.
        data = msgspec.json.encode(asked | {"cursor": str(news.cursor)})
        await trio.to_thread.run_sync(replace_file, cursor_file, data)
    return report


async def _bring(manager: ModelManager, policy: Policy, model_id: str, report: Report) -> None:
    one = await manager.resolve(model_id, policy.channels.get(model_id))
    before = manager.active().get(model_id)
    known = manager.registry.record(one)
    if known is None or known.status is not Status.READY:
        await _check_budget(manager, policy, one)
        await manager.download(*one, wait=True)
        record = manager.registry.record(one)
        report.bytes += record.size_bytes if record else 0
        (report.updated if before else report.installed).append(str(one))
    elif before is not None and before.version != one.version:
        report.updated.append(str(one))
    await manager.keeper.activate(*one, reason="sync")


async def _check_budget(manager: ModelManager, policy: Policy, one: Key) -> None:
    if policy.max_bytes is None:
        return
    listed = (await manager.hub.model(one.model_id)).find(one.version)
    taken = sum(
        record.size_bytes for versions in manager.installed().values() for record in versions.values()
    )
    needed = taken + (listed.size_bytes if listed else 0)
    if needed > policy.max_bytes:
        raise InsufficientSpaceError(
            needed, policy.max_bytes, "the policy's max_bytes allows no more; raise it or remove models"
        )


async def _take_away(manager: ModelManager, news: SyncAnswer, report: Report) -> None:
    """Remove versions that the hub no longer has, unless they are in use here."""
    for gone in news.removed:
        if gone.kind != "model" or not gone.version:
            continue
        one = key(gone.id, gone.version)
        pointer = manager.active().get(gone.id)
        if manager.registry.record(one) is None or (pointer and pointer.version == gone.version):
            continue
        try:
            await manager.keeper.uninstall(*one)
            report.removed.append(str(one))
        except InUseError as error:
            report.failed[gone.id] = str(error)


def _is_here(manager: ModelManager, model_id: str) -> bool:
    try:
        manager.path(model_id)
    except ModelNotAvailableError:
        return False
    return True


def _cursor(file: Path, asked: dict[str, str]) -> str | None:
    """Where the last run with this hub stopped, if it followed the same channels."""
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return kept.get("cursor") if asked.items() <= kept.items() else None


async def update(manager: ModelManager, model_id: str, works: Check, version: str | None = None) -> Key:
    """Have the version the hub offers, use it, and go back if it does not work; the one in use then.

    Raises ModelError of every kind; NoPreviousVersionError if the first version ever does not work.
    """
    one = await manager.resolve(model_id, version)
    path = await manager.download(*one, wait=True)
    await manager.keeper.activate(*one, reason="update")
    if await works(path):
        return one
    return Key(model_id, await manager.keeper.rollback(model_id, f"{one.version} does not work"))
