"""Servers for the tests of this directory."""

import pytest

pytest.register_assert_rewrite("instances")

from redis_fixtures import make_server, masters, server, shared_masters, shared_server  # noqa: E402

__all__ = ["make_server", "masters", "server", "shared_masters", "shared_server"]
