"""The pages are tested with the daemons of the end-to-end tests."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "e2e"))
pytest.register_assert_rewrite("processes", "accessibility", "fleet", "looking_on")
