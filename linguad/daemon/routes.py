"""docs/routes.md, printed from what the apps are described by: `python -m linguad.daemon.routes`."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from linguad.gateway.openapi.operations import OPERATIONS
from linguad.hub.openapi import ROUTES

HEAD = """\
# Routes

Every route of the public API (port 8081) and of the model hub (port 5000), each with the scope that a key
needs. Their details are in `/openapi.json` and `/docs` of the port. Those of the scheduler's port are in
[operations.md](operations.md).

<!-- Printed by `python -m linguad.daemon.routes`; change the descriptions there, not this page. -->
"""

COLUMNS = "| Request | Scope | What |\n| --- | --- | --- |\n"


def page() -> str:
    """The page."""
    api = (
        (one.method, one.path, "" if one.open else str(one.scope or "any"), one.summary) for one in OPERATIONS
    )
    hub = ((one.method, one.path, str(one.scope or ""), one.summary) for one in ROUTES)
    return f"{HEAD}\n## Public API\n\n{_table(api)}\n## Model hub\n\n{_table(hub)}"


def _table(rows: Iterable[tuple[str, str, str, str]]) -> str:
    lines = (f"| `{method} {path}` | {scope} | {summary} |\n" for method, path, scope, summary in rows)
    return COLUMNS + "".join(lines)


if __name__ == "__main__":
    sys.stdout.write(page())
