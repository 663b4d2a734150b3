"""What pages show of the hub: its models with versions and channels, and what was used most in 30 days."""

from __future__ import annotations

import time
from typing import Any

from linguad.core.hub_usage import WINDOWS, Kind
from linguad.errors import StoreError
from linguad.hub import listing
from linguad.hub.catalog import Catalog
from linguad.hub.snapshot import Snapshot
from linguad.hub.usage import Records

MOST_RANKED = 200


class Overview:
    """The hub of this process, as `linguad.ops.hub.Shelf`."""

    def __init__(self, catalog: Catalog, records: Records) -> None:
        self._catalog = catalog
        self._records = records

    async def told(self) -> dict[str, Any]:
        """All models, also those that are not offered. A ranking is None while there is no store."""
        return {
            "models": await self._catalog.ask(_models),
            "model_ranking": await self._ranking("model"),
            "service_ranking": await self._ranking("service"),
        }

    async def _ranking(self, kind: Kind) -> list[dict[str, Any]] | None:
        try:
            counts = await self._records.ranking(kind, "request", time.time() - WINDOWS["30d"])
        except StoreError:
            return None
        return [
            {"id": name, "count": count, "rank": rank}
            for rank, (name, count) in enumerate(counts[:MOST_RANKED], 1)
        ]


def _models(snapshot: Snapshot) -> list[dict[str, Any]]:
    return [
        {
            "id": entry.info.id,
            "name": entry.info.name,
            "task": entry.info.task,
            "languages": entry.info.languages,
            "default_version": entry.info.default_version,
            "channels": entry.info.channels,
            "versions": [
                {"version": one.version, "size_bytes": one.size_bytes, "status": one.status}
                for one in listing.versions(entry, None)
            ],
        }
        for entry in snapshot.models.values()
    ]
