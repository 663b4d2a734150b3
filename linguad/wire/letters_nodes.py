"""Letters about nodes of other instances (design 7)."""

from __future__ import annotations

from linguad.wire.letters import Letter
from linguad.wire.override import Override


class NodeOverridden(Letter, frozen=True, tag="node_overridden"):
    """To the owner of a node: an operator said this about it to us, all of it."""

    node: str
    said: Override
