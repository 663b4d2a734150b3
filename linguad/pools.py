"""Pool hashing and the node table: the compiled module where it was built, else its plain-Python twin.

`COMPILED` says which one is in use. LINGUAD_NO_EXTENSIONS=1 in the environment asks for the plain one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from linguad import _hash_py as _twin
from linguad._limits import MAX_CAP, MAX_CHOICES, MAX_EXCLUDED, POLICIES
from linguad._pool_ids import POOL_LADDER

__all__ = [
    "COMPILED",
    "MAX_CAP",
    "MAX_CHOICES",
    "MAX_EXCLUDED",
    "POLICIES",
    "POOL_LADDER",
    "NodeTable",
    "fnv1a64",
    "pick_index_for_key",
    "pool_count_for",
    "pool_id_for_key",
    "pool_probe_order",
    "ring_order_ids",
]

if not os.environ.get("LINGUAD_NO_EXTENSIONS"):
    with suppress(ImportError):
        from linguad import _hash as _twin  # type: ignore[no-redef]

COMPILED: Final[bool] = _twin.__name__ == "linguad._hash"
"""Whether the compiled module is in use; without it every selection takes many times as long."""

NodeTable = _twin.NodeTable
fnv1a64 = _twin.fnv1a64
pick_index_for_key = _twin.pick_index_for_key
pool_count_for = _twin.pool_count_for
pool_id_for_key = _twin.pool_id_for_key
pool_probe_order = _twin.pool_probe_order
ring_order_ids = _twin.ring_order_ids
