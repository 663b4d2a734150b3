"""The grammar of API keys, and what may be said about tenants and keys."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad.core.accounts import (
    CHANGEABLE,
    FieldsError,
    IssuedKey,
    KeyWish,
    checked_grace,
    checked_wish,
    tenant_members,
)
from linguad.core.api_key import ID_CHARS, PREFIX_CHARS, SECRET_CHARS, ApiKey, may_be_made_up, parse
from linguad.core.tenant import BillingMode, Key, Scope, Status, Tenant

BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

api_keys = st.builds(
    ApiKey,
    st.sampled_from(["live", "test"]),
    st.text(BASE32, min_size=ID_CHARS, max_size=ID_CHARS),
    st.text(BASE64, min_size=SECRET_CHARS, max_size=SECRET_CHARS),
)


@given(api_keys)
def test_a_key_is_read_as_it_was_written(key: ApiKey) -> None:
    assert parse(key.text()) == key
    assert key.secret[:8] not in key.text()[:PREFIX_CHARS], "what is shown holds nothing of the secret"


@given(api_keys, st.integers(0, 63), st.text(max_size=1))
def test_what_differs_in_one_place_is_another_key_or_none(key: ApiKey, place: int, put: str) -> None:
    text = key.text()
    changed = text[:place] + put + text[place + 1 :]
    assert (parse(changed) == key) == (changed == text)


@given(st.text() | st.text(BASE64).map("lk_live_".__add__))
def test_other_texts_are_no_generated_keys(text: str) -> None:
    assert parse(text) is None


@given(st.text())
def test_what_operators_may_make_up(text: str) -> None:
    assert may_be_made_up(text) == (16 <= len(text) <= 256 and text.isascii() and text.isprintable())


def test_a_new_key_does_not_show_itself() -> None:
    key = Key(id="abc", tenant_id="t", prefix="", scopes=frozenset(), created_at=0.0)
    assert repr(IssuedKey(key, "sesame")) == "IssuedKey(abc)"


GOOD: dict[str, tuple[Any, Any]] = {
    "name": ("Müller & 中文", "Müller & 中文"),
    "status": ("suspended", Status.SUSPENDED),
    "max_requests_per_second": (5, 5.0),
    "burst": (7, 7),
    "max_concurrent_sessions": (0, 0),
    "max_audio_seconds_per_day": (3600, 3600),
    "max_audio_seconds_per_month": (0, 0),
    "max_upload_bytes": (1024, 1024),
    "allowed_origins": (
        ["https://App.example.com", "http://localhost:3000", "https://app.example.com"],
        ("https://app.example.com", "http://localhost:3000"),
    ),
    "default_src_lang": ("auto", "auto"),
    "default_tgt_lang": ("zh-CN", "zh"),
    "allowed_languages": (["en", "EN-us", "yue"], ("en", "yue")),
    "allowed_features": (["emotion_detection"], ("emotion_detection",)),
    "billing_mode": ("prepaid", BillingMode.PREPAID),
    "pool_id": ("gpu", "gpu"),
    "metadata": ({"crm": [1, {"a": None}]}, {"crm": [1, {"a": None}]}),
}

BAD = [
    *(("name", value) for value in ("", " ", "a" * 101, "a\nb", "\0", "\ud800", None, 5)),
    *(("status", value) for value in ("gone", True)),
    *(("max_requests_per_second", value) for value in (0, -1, float("nan"), float("inf"), "5", 2e6)),
    *(("burst", value) for value in (0, 1.5)),
    *(("max_concurrent_sessions", value) for value in (-1, 2**40)),
    ("max_audio_seconds_per_day", -1),
    ("max_audio_seconds_per_month", 2**60),
    ("max_upload_bytes", 0),
    *(
        ("allowed_origins", [value])
        for value in ("*", "null", "https://a/", "ftp://a", "https://a b", "https://a:x")
    ),
    ("allowed_origins", "https://a"),
    *(("default_src_lang", value) for value in ("", "english", "e", "zh_CN\0")),
    ("default_tgt_lang", "auto"),
    ("allowed_languages", ["auto!"]),
    ("allowed_features", ["teleport"]),
    ("billing_mode", "free"),
    ("pool_id", ""),
    ("metadata", {"a": "b" * 5000}),
    ("metadata", {"a": "\ud800"}),
    ("metadata", ["a"]),
    ("id", "other"),
    ("created_at", 5),
]


def test_every_member_can_be_said() -> None:
    assert tuple(GOOD) == CHANGEABLE
    given = {name: value for name, (value, _) in GOOD.items()}
    assert tenant_members(given) == {name: value for name, (_, value) in GOOD.items()}


def test_null_is_the_default() -> None:
    blank = Tenant(id="t", name="t", created_at=0.0, updated_at=0.0)
    members = tenant_members(dict.fromkeys(name for name in CHANGEABLE if name != "name"))
    assert msgspec.structs.replace(blank, **members) == blank


@pytest.mark.parametrize(("name", "value"), BAD)
def test_what_cannot_be_is_named_with_what_is_allowed(name: str, value: object) -> None:
    with pytest.raises(FieldsError) as caught:
        tenant_members({name: value, "burst": 1} if name != "burst" else {name: value})
    ((field, reason),) = caught.value.problems
    assert field == name
    assert reason.startswith(("allowed is", "is not known"))


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(FieldsError, match=r"^burst: allowed is .*; nme: is not known; there are name, "):
        tenant_members({"burst": 0, "nme": "x"})


@given(
    st.dictionaries(
        st.sampled_from([*CHANGEABLE, "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    )
)
def test_any_input_is_taken_or_refused(given: dict[str, object]) -> None:
    try:
        members = tenant_members(given)
    except FieldsError as error:
        members = dict.fromkeys(set(given) - {field for field, _ in error.problems})
    else:
        tenant = Tenant(**{"id": "t", "name": "t", "created_at": 0.0, "updated_at": 0.0} | members)
        assert msgspec.convert(msgspec.to_builtins(tenant), Tenant) == tenant
    assert set(members) <= set(given)


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        (KeyWish(label="a" * 101), "label"),
        (KeyWish(label="a\0"), "label"),
        (KeyWish(scopes=frozenset()), "scopes"),
        (KeyWish(expires_at=100.0), "expires_at"),
        (KeyWish(expires_at=float("nan")), "expires_at"),
        (KeyWish(expires_at=float("inf")), "expires_at"),
    ],
)
def test_wishes_that_cannot_be_granted(wish: KeyWish, field: str) -> None:
    with pytest.raises(FieldsError) as caught:
        checked_wish(wish, now=100.0)
    assert [name for name, _ in caught.value.problems] == [field]


def test_wishes_that_can() -> None:
    wish = KeyWish(label="phone", scopes=frozenset({Scope.STREAM}), expires_at=100.5)
    assert checked_wish(wish, now=100.0) is wish


@pytest.mark.parametrize("seconds", [-1, 604801, float("nan")])
def test_graces_that_cannot_be(seconds: float) -> None:
    assert checked_grace(0) == 0
    with pytest.raises(FieldsError, match="grace_seconds"):
        checked_grace(seconds)
