"""What an instance tells the others of a node whose socket it holds (design 7)."""

from __future__ import annotations

from msgspec import Struct

from linguad.wire.node import HardwareInfo, NodeLanguageCapabilities, ResourceUsage
from linguad.wire.override import Override

LOAD_STEP = 5
"""Percent to which loads are rounded down, so that a record does not change with every heartbeat."""


class NodeRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node as its owner sees it: what it may be given, not what it said; msgpack."""

    node: str
    owner: str
    """The instance that holds its socket."""
    boot: str = ""
    """Its process: one that was started anew under the same name has not this socket."""
    epoch: int
    """Of the lease: the higher one is the newer registration, whoever took it."""
    status: str
    slots: int
    used_by: dict[str, int] = {}
    """Slots that are out, by the instance whose jobs have them."""
    services: int = 0
    """Types that run, without those the node said it lacks: bits of `core.services.Services`."""
    installed: int = 0
    features: int = 0
    """Bits of `core.key.Features`."""
    public: bool = True
    weight: float = 1.0
    platform: str = ""
    hardware: HardwareInfo = HardwareInfo()
    languages: NodeLanguageCapabilities = NodeLanguageCapabilities()
    usage: ResourceUsage = ResourceUsage()
    said: Override = Override()
    """What an operator said about it, which goes with it to its next owner."""

    def others_use(self, instance: str) -> int:
        """Slots that are out, but for those of the jobs of one instance."""
        return sum(count for name, count in self.used_by.items() if name != instance)
