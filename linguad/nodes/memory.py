"""What is known of nodes, kept over restarts in `nodes.json` of the state directory.

Written in another thread: at once after an operator's word, at the end of the daemon, and now and then when
something was learned. What cannot be written is tried again; the daemon goes on without.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import trio
from msgspec import Meta, Struct

from linguad import log
from linguad.core.clock import Clock
from linguad.core.fleet import Fleet
from linguad.core.key import Key
from linguad.core.memory import MAX_REMEMBERED, NOTHING, Remembered
from linguad.core.services import Services
from linguad.core.speed import FASTEST, SLOWEST
from linguad.files import replace_file
from linguad.wire.override import Override

SAVE_SECONDS = 30.0
"""Between two looks whether something was learned."""

GATHER_SECONDS = 0.2
"""How long after an operator's word the file is written, so that many words are written once."""

NODES_AT_ONCE = 50
"""Nodes looked at before others get their turn."""

logger = log.get(__name__)


class KeptSpeed(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One learned speed."""

    src: str
    tgt: str
    services: Annotated[int, Meta(ge=0, lt=2 ** len(Services))]
    two_way: bool
    speed: Annotated[float, Meta(ge=SLOWEST, le=FASTEST)]


class KeptNode(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One node."""

    override: Override = Override()
    failed_probations: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    on_probation: bool = False
    quarantined_until: float = 0.0
    """Unix time, s."""
    speeds: tuple[KeptSpeed, ...] = ()


class KeptNodes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file: nodes by id, the longest gone first."""

    version: Literal[1]
    nodes: dict[str, KeptNode]


class NodeMemory:
    """Keeps what a fleet remembers in a file."""

    def __init__(self, fleet: Fleet, clock: Clock, path: Path) -> None:
        self.path = path
        self._fleet = fleet
        self._clock = clock
        self._soon = trio.Event()
        self._written = b""
        self._saving = trio.Lock()

    async def load(self) -> None:
        """Read the file, before any node registers; one that cannot be used is put aside."""
        try:
            kept = await trio.to_thread.run_sync(_read, self.path)
        except (OSError, ValueError, RecursionError) as error:
            aside = self.path.with_name(self.path.name + ".broken")
            logger.warning(
                "node_memory_broken", file=str(self.path), renamed_to=str(aside), reason=_reason(error)
            )
            try:
                os.replace(self.path, aside)
            except OSError as failed:
                logger.warning("node_memory_unwritten", file=str(aside), reason=_reason(failed))
            return
        now = trio.current_time()
        self._fleet.memory.restore(
            {node_id: self._recalled(node, now) for node_id, node in list(kept.items())[-MAX_REMEMBERED:]}
        )

    async def run(self) -> None:
        """Keep the file in step, for ever."""
        while True:
            with trio.move_on_after(SAVE_SECONDS):
                await self._soon.wait()
                await trio.sleep(GATHER_SECONDS)
            self._soon = trio.Event()
            await self.save()

    def soon(self) -> None:
        """An operator said something that must not be lost."""
        self._soon.set()

    async def save(self) -> None:
        """Write the file if anything changed; what goes wrong is logged."""
        async with self._saving:
            await self._save()

    async def _save(self) -> None:
        kept: list[tuple[str, KeptNode]] = []
        for number, node_id in enumerate(self._fleet.by_last_sight()[-MAX_REMEMBERED:]):
            if number % NODES_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            remembered = self._fleet.remembered(node_id)
            if remembered != NOTHING:
                kept.append((node_id, self._kept(remembered)))
        try:
            self._written = await trio.to_thread.run_sync(_write, self.path, kept, self._written)
        except OSError as error:
            logger.warning("node_memory_unwritten", file=str(self.path), reason=_reason(error))

    def _kept(self, remembered: Remembered) -> KeptNode:
        left_s = remembered.quarantined_until - trio.current_time()
        return KeptNode(
            override=remembered.said,
            failed_probations=remembered.failed_probations,
            on_probation=remembered.on_probation,
            quarantined_until=remembered.quarantined_until + self._clock.offset_s if left_s > 0 else 0.0,
            speeds=tuple(
                KeptSpeed(key.src, key.tgt, int(key.needs), key.two_way, speed)
                for key, speed in remembered.speeds
            ),
        )

    def _recalled(self, kept: KeptNode, now: float) -> Remembered:
        until = kept.quarantined_until - self._clock.offset_s
        # a clock that was set back must not keep a node away for ever
        longest = now + self._fleet.rules.quarantine_max_s
        return Remembered(
            said=kept.override,
            failed_probations=kept.failed_probations,
            on_probation=kept.on_probation,
            quarantined_until=min(until, longest) if until > now else 0.0,
            speeds=tuple(
                (Key(one.src, one.tgt, Services(one.services), one.two_way), one.speed) for one in kept.speeds
            ),
        )


def _read(path: Path) -> Mapping[str, KeptNode]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    return msgspec.json.decode(data, type=KeptNodes).nodes


def _write(path: Path, nodes: Iterable[tuple[str, KeptNode]], written: bytes) -> bytes:
    """Replace the file unless it holds this already; the digest of what it holds."""
    encode = msgspec.json.encode
    lines = b",\n".join(encode(node_id) + b":" + encode(node) for node_id, node in nodes)
    data = b'{"version":1,"nodes":{\n' + lines + b"\n}}\n"
    digest = hashlib.sha256(data).digest()
    if digest == written or (not written and not lines and not path.exists()):
        return digest
    replace_file(path, data)
    return digest


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
