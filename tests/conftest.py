"""What all tests share: helper modules in this directory can be imported, and explain their assertions."""

import pytest

pytest.register_assert_rewrite("harness", "links", "cutter", "redis_cluster")
