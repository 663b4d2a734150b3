"""Brings a database to the schema of this version, with Alembic; two processes may try at the same time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Literal

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text

from linguad.errors import LinguadError

STEPS = Path(__file__).parent / "migrations"

PROCESSES_IN_TURN = 0x6C696E67
"""Number of the PostgreSQL lock that lets one process migrate at a time."""

_THREADS_IN_TURN = threading.Lock()
"""Alembic keeps what it is doing in globals."""


def migrate(connection: Connection) -> None:
    """Run the steps that are missing, inside the transaction that is open; on SQLite that is alone.

    Raises LinguadError for a database of a newer version.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": PROCESSES_IN_TURN})
    config = Config()
    config.set_main_option("script_location", str(STEPS).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    try:
        with _THREADS_IN_TURN:
            command.upgrade(config, "head")
    except CommandError as error:
        raise LinguadError(
            f"The store cannot be brought to this version of linguad: {error}; a newer version may have "
            "written it: run that one, or give this one a copy that was made before."
        ) from error


def age(connection: Connection) -> Literal["older", "current", "newer"]:
    """How the schema of a database compares with that of this version; an empty one is older."""
    revision = None
    if inspect(connection).has_table("alembic_version"):
        revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    steps = ScriptDirectory(str(STEPS))
    if revision == steps.get_current_head():
        return "current"
    older = revision is None or revision in {step.revision for step in steps.walk_revisions()}
    return "older" if older else "newer"
