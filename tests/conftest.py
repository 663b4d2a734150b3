"""What all tests share: helper modules in this directory can be imported, and explain their assertions.

An example of a property may take as long as a busy machine needs for it.
"""

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("harness", "links", "cutter", "redis_cluster")

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
