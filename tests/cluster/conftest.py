"""Servers and helpers for the tests of this directory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# the servers and waits that the tests of the link use as well
sys.path.append(str(Path(__file__).parent.parent / "redis_link"))
pytest.register_assert_rewrite("instances")

pytest_plugins: list[str] = []
