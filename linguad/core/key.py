"""What a job asks of a node: an index key of the fleet (resolution 33)."""

from __future__ import annotations

from enum import IntFlag
from typing import NamedTuple

import msgspec

from linguad.core.capability import ANYWHERE
from linguad.core.services import Services
from linguad.wire.common import FeatureFlags

_NO_FLAGS = FeatureFlags()

ANY = "*"
"""Source or target of a key that is not asked for."""


class Features(IntFlag):
    """Optional abilities a job may ask for and a node may claim (session-protocol 2.5.1)."""

    NONE = 0
    EMOTION_DETECTION = 1
    VOICE_STYLE_DETECTION = 2
    SPEECH_RATE_DETECTION = 4
    SPEECH_RATE_CONTROL = 8
    SPEAKER_IDENTIFICATION = 16
    PERSONA_ADAPTATION = 32

    @classmethod
    def of(cls, flags: FeatureFlags | None) -> Features:
        """The flags that are set on the wire."""
        found = cls.NONE
        if flags is not None and flags != _NO_FLAGS:
            for name, value in msgspec.structs.asdict(flags).items():
                if value:
                    found |= cls[name.upper()]
        return found

    @property
    def names(self) -> list[str]:
        """The names of the wire, in its order."""
        return [str(flag.name).lower() for flag in Features if flag & self]


class Key(NamedTuple):
    """What a job asks of a node; a two-way key wants both directions."""

    src: str
    tgt: str
    needs: Services
    two_way: bool = False
    features: Features = Features.NONE
    """Abilities without which a node does not fit."""
    node: str = ""
    """The only node that fits, for a paired session; it need not take jobs of the public."""
    pools: tuple[int, ...] = ANYWHERE
    """Capability pools whose nodes fit, by id, ascending."""

    @property
    def work(self) -> Key:
        """The key without its wishes: what decides how long the job takes."""
        return self if not self.narrow else Key(*self[:4])

    @property
    def narrow(self) -> bool:
        """Whether it has wishes that do not change the work."""
        return bool(self.features or self.node or self.pools)

    def alike(self, pool: int | None) -> set[Key]:
        """Keys in which a node of a pool is as fast as in this one, as far as they are told apart."""
        if pool is None and not self.narrow:
            return {self}
        pools = {ANYWHERE, self.pools} | ({(pool,)} if pool is not None else set())
        wishes = {Features.NONE, self.features}
        return {self.work._replace(features=wish, pools=where) for wish in wishes for where in pools}
