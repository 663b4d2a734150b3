"""Settings of the store."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from linguad.config.base import Secret, Table


class Store(Table, frozen=True, kw_only=True):
    """Where tenants, keys, usage and all else are kept that must outlive a restart."""

    url: Annotated[
        Secret,
        Meta(
            description="The database: `postgresql://user:password@host/name` or `sqlite:////path/file`. "
            "Empty means the file `linguad.db` in the state directory, so that nothing has to be set up. "
            "Never shown, because it may hold a password."
        ),
    ] = ""
    shared: Annotated[
        bool,
        Meta(
            description="Whether several instances on this machine may serve from one SQLite file. False: "
            "each counts limits by itself, so a second instance on the same file is more likely a mistake, "
            "and is refused. Without meaning for PostgreSQL."
        ),
    ] = False
