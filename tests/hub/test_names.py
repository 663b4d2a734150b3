"""Names and paths that may exist, and the order of versions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad.hub import names
from linguad.hub.names import BadName, check_path


@pytest.mark.parametrize("name", ["m", "m1", "faster-whisper_v1.2", "a" * 128, "7b"])
def test_ids(name: str) -> None:
    assert names.is_id(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a.", "-a", ".a", "_a", "a/b", "a\\b", "a b", "é", "a" * 129, "nul"]
)
def test_no_ids(name: str) -> None:
    assert not names.is_id(name)


@pytest.mark.parametrize("name", ["1", "1.0.0", "1.0.0-rc.1+b5", "v2_x"])
def test_versions(name: str) -> None:
    assert names.is_version(name)


@pytest.mark.parametrize("name", ["", ".", "..", "-1", "1/2", "1" * 65, "%2e%2e"])
def test_no_versions(name: str) -> None:
    assert not names.is_version(name)


@pytest.mark.parametrize(
    "path", ["model.bin", "a/b/c.txt", "..foo", "weights v2.bin", "模型.bin", "%2e%2e/x"]
)
def test_paths(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/etc/passwd",
        "a//b",
        "a/",
        "../x",
        "a/../b",
        "a/./b",
        "a\\..\\b",
        "C:/x",
        "a\0b",
        "a\nb",
        "\x7f",
        "con",
        "a/NUL",
        "com1.txt",
        "lpt9",
        "a/" * 16 + "b",
        "x" * 256,
        "é" * 128,
        "\ud800",
    ],
)
def test_no_paths(path: str) -> None:
    with pytest.raises(BadName):
        check_path(path)


def test_semver_has_digits_of_ascii_only() -> None:
    assert names.is_semver("1.0.13")
    assert not names.is_semver("1.0.1\u0663")


def test_order_of_versions() -> None:
    expected = [
        "2.0.0-rc.1",
        "1.10.0",
        "1.9.0",
        "1.9.0-rc.2",
        "1.9.0-rc.1",
        "1.9.0-1",
        "v10",
        "v9",
        "tokenizer",
    ]
    assert names.newest_first(sorted(expected)) == expected
    assert names.newest(expected) == "1.10.0"
    assert names.newest(["v9", "v10"]) == "v10"
    assert names.newest(["1.0.0-rc.1"]) == "1.0.0-rc.1"
    assert names.newest([]) is None


@given(st.lists(st.text("019.-+av", min_size=1, max_size=8), unique=True))
def test_any_versions_have_one_order(versions: list[str]) -> None:
    once = names.newest_first(versions)
    assert names.newest_first(once[::-1]) == once
