"""Language codes of engines."""

from __future__ import annotations

import pytest

from linguad.worker.languages import from_iso_639_3


@pytest.mark.parametrize(
    ("long", "short"), [("eng", "en"), ("SPA", "es"), ("ast", "ast"), ("en", "en"), ("xyz", "xyz")]
)
def test_three_letters_become_the_wire_s_code(long: str, short: str) -> None:
    assert from_iso_639_3(long) == short
