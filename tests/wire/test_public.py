"""What callers of the public API are told about messages that cannot be read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad.errors import WireError
from linguad.wire import codec
from linguad.wire.public import Audio, Init, Start

SECRET = "lk_live_abcdefghijkl_secretsecretsecret"


def refusal(text: str) -> WireError | None:
    """Why a text is no message; None if it is one."""
    try:
        codec.stream_messages.decode(text)
    except WireError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", ""),
        ("{", ""),
        ("[]", ""),
        ('"start"', ""),
        ("null", ""),
        ('{"type":"start"', ""),
        ("[" * 100_000, ""),
        ("{}", "type"),
        ('{"type":null}', "type"),
        ('{"type":7}', "type"),
        ('{"type":"dance"}', "type"),
        ('{"chunk":"AAAA"}', "type"),
        ('{"type":"auth"}', "token"),
        ('{"type":"auth","token":null}', "token"),
        ('{"type":"start","src_lang":7}', "src_lang"),
        ('{"type":"start","sample_rate":"fast"}', "sample_rate"),
        ('{"type":"start","sample_rate":-1}', "sample_rate"),
        ('{"type":"start","auto_langs":["zh",7]}', "auto_langs[1]"),
        ('{"type":"start","features":{"emotion_detection":"sure"}}', "features.emotion_detection"),
        ('{"type":"start","client_ref":"%s"}' % ("x" * 129), "client_ref"),
        ('{"type":"audio","chunk":7}', "chunk"),
        ('{"type":"end","close":"soon"}', "close"),
    ],
)
def test_the_member_that_is_wrong_is_named(text: str, field: str) -> None:
    refused = refusal(text)
    assert refused is not None
    assert refused.field == field


def test_defaults_and_nulls_are_what_they_were() -> None:
    assert codec.stream_messages.decode('{"type":"start"}') == Start()
    assert codec.stream_messages.decode('{"type":"start","src_lang":null,"extra":[1]}') == Start()
    assert codec.stream_messages.decode('{"sample_rate":"8000","type":"start"}') == Start(sample_rate=8000)
    assert codec.stream_messages.decode('{"type":"audio","data":"AAAA"}') == Audio(data="AAAA")
    message = codec.stream_messages.decode('{"type":"init","api_key":"k","tgt_lang":"ja"}')
    assert message == Init(api_key="k", tgt_lang="ja")


@given(
    st.sampled_from(["auth", "start", "init", "audio", "end", "cancel", "ping", SECRET]),
    st.sampled_from(["token", "api_key", "chunk", "src_lang", "close", "id", "features", "auto_langs"]),
    st.sampled_from([SECRET, [SECRET], {SECRET: SECRET}, SECRET * 200, True]),
)
def test_nothing_that_was_sent_is_quoted(kind: str, member: str, value: object) -> None:
    refused = refusal(json.dumps({"type": kind, member: value}))
    assert refused is None or (str(refused) and SECRET not in str(refused))


@given(st.text(max_size=200))
def test_any_text_is_refused_in_order(text: str) -> None:
    refused = refusal(text)
    assert refused is not None
    assert refused.field in ("", "type")
