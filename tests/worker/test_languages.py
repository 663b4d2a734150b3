"""Language codes on the wire and in engines."""

from __future__ import annotations

import pytest

from linguad.worker import languages


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("en", "en"),
        ("EN-us", "en"),
        (" zh-Hant ", "zh"),
        ("pt-BR", "pt"),
        ("iw", "he"),
        ("in", "id"),
        ("es-MX", "es-mx"),
        ("auto", "auto"),
    ],
)
def test_codes_are_compared_in_one_form(given: str, normal: str) -> None:
    assert languages.normal(given) == normal
    assert languages.normal(normal) == normal


@pytest.mark.parametrize(
    ("long", "short"), [("eng", "en"), ("SPA", "es"), ("ast", "ast"), ("en", "en"), ("xyz", "xyz")]
)
def test_three_letters_become_the_wire_s_code(long: str, short: str) -> None:
    assert languages.from_iso_639_3(long) == short
