"""Servers for the tests of this directory."""

from redis_fixtures import make_server, server, shared_server

__all__ = ["make_server", "server", "shared_server"]
