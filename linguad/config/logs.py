"""Settings of logging."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from linguad.config.base import GIB, KIB, MIB, Table
from linguad.log import Format, Level


class Log(Table, frozen=True, kw_only=True):
    """What is logged, how and where to; docs/logging.md lists the events."""

    format: Annotated[
        Format,
        Meta(
            description="Form of a line on standard output: `json`, `pretty` for people, or `auto`, which "
            "is pretty on a terminal and json elsewhere, where programs read it. The file is "
            "always json."
        ),
    ] = "auto"
    level: Annotated[
        Level,
        Meta(
            description="Least level that is logged. `info` has one line per connection, finished job and "
            "closed session."
        ),
    ] = "info"
    levels: Annotated[
        dict[str, Level],
        Meta(
            description='Other levels for single packages, none at first. Example: {sessions = "debug", '
            'nodes = "warning"}; `sessions` means linguad.sessions and all below. Libraries '
            "(hypercorn, trio-websocket …) log from `warning` on unless named here."
        ),
    ] = field(default_factory=dict)
    slow_path_ms: Annotated[
        float,
        Meta(
            ge=1,
            le=60_000,
            description="A step of the dispatcher that takes longer is warned of (`slow_path`) and counted "
            "(`scheduler_slow_path_total`). 50, as in the earlier server.",
        ),
    ] = 50
    file: Annotated[
        str,
        Meta(
            description="File that gets every line as well; its directory is made if missing. Empty means "
            "none, because systemd and containers keep standard output. SIGHUP opens it anew."
        ),
    ] = ""
    rotate_bytes: Annotated[
        int,
        Meta(
            ge=64 * KIB,
            le=10 * GIB,
            description="Size at which the file is renamed to `.1` and begun anew. 5 MiB, as in the earlier "
            "server, opens in any editor.",
        ),
    ] = 5 * MIB
    keep: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Renamed files that are kept, the newest as `.1`. 5, as in the earlier server: with "
            "the current one at most 30 MiB of disk.",
        ),
    ] = 5
