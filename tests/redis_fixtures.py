"""Real servers as fixtures; a conftest imports those it offers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from redis_cluster import RedisCluster
from redis_server import RedisServer


@pytest.fixture(scope="session")
def shared_server() -> Iterator[RedisServer]:
    """One server for all tests that do it no harm."""
    server = RedisServer(port=True).start()
    yield server
    server.clear_away()


@pytest.fixture
def server(shared_server: RedisServer) -> RedisServer:
    """A server that is empty, and stays as it is."""
    shared_server.do("FLUSHALL")
    shared_server.do("SCRIPT", "FLUSH")
    return shared_server


@pytest.fixture
def make_server() -> Iterator[Callable[..., RedisServer]]:
    """Servers of the test's own, to be stopped, killed and frozen."""
    made: list[RedisServer] = []

    def make(*options: str, **more: bool) -> RedisServer:
        made.append(RedisServer(*options, **more))
        return made[-1].start()

    yield make
    for one in made:
        one.clear_away()


@pytest.fixture(scope="session")
def shared_masters() -> Iterator[RedisCluster]:
    """One cluster of three masters for all tests that do it no harm."""
    masters = RedisCluster()
    yield masters
    masters.clear_away()


@pytest.fixture
def masters(shared_masters: RedisCluster) -> RedisCluster:
    """A cluster that is empty."""
    for one in shared_masters.servers:
        one.do("FLUSHALL")
    return shared_masters
