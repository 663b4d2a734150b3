"""Language codes as they are compared (node-protocol 2.12)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad.wire.language import normalize


@pytest.mark.parametrize(
    ("code", "normal"),
    [
        ("en", "en"),
        ("EN", "en"),
        (" en ", "en"),
        ("zh-CN", "zh"),
        ("zh-tw", "zh"),
        ("zh-hans", "zh"),
        ("zh-Hant", "zh"),
        ("zh-hk", "zh-hk"),
        ("pt-BR", "pt"),
        ("pt-pt", "pt"),
        ("en-us", "en"),
        ("en-gb", "en"),
        ("en-au", "en-au"),
        ("in", "id"),
        ("iw", "he"),
        ("EN-us", "en"),
        (" zh-Hant ", "zh"),
        ("es-MX", "es-mx"),
        ("auto", "auto"),
        ("", ""),
    ],
)
def test_table(code: str, normal: str) -> None:
    assert normalize(code) == normal


@given(st.text(max_size=10))
def test_what_is_normal_stays(code: str) -> None:
    assert normalize(normalize(code)) == normalize(code)
