"""Databases of both kinds for the tests of the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from postgres import Postgres

from linguad.store.database import Database

NewUrl = Callable[[], str]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.clear_away()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'linguad.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.make_database()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """A new database that is open, once of each kind."""
    opened = Database(url)
    await opened.open()
    yield opened
    await opened.close()
