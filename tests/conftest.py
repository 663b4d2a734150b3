"""What all tests share: helper modules in this directory can be imported, and explain their assertions.

An example of a property may take as long as a busy machine needs for it. Files with real processes come
first, so that what is left for one worker in the end is short.
"""

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("harness", "links", "cutter", "redis_cluster")

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

LONG = ("pages", "e2e", "models", "cluster", "redis_link", "store", "hub", "worker", "net")
"""Directories whose files take long, which come first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first; otherwise the order stays."""
    items.sort(key=lambda item: LONG.index(name) if (name := item.path.parent.name) in LONG else len(LONG))
