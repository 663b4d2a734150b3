"""The fields of a translation: what is left out, what is normalised, and all that is wrong at once."""

from __future__ import annotations

import json
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad.core.tenant import Tenant
from linguad.gateway.speech.request import FIELDS, TranslateRequest, parse_request
from linguad.gateway.speech.sound import AudioFormat, OutputFormat
from linguad.web.problems import Problem
from linguad.wire.common import FeatureFlags

TENANT = Tenant(id="t", name="t", created_at=0, updated_at=0)
FEW = msgspec.structs.replace(
    TENANT, allowed_languages=("en", "zh-CN", "ko"), allowed_features=("emotion_detection",)
)


def parse(tenant: Tenant = TENANT, **fields: str) -> TranslateRequest:
    return parse_request(fields, tenant)


def refused(tenant: Tenant = TENANT, **fields: str) -> tuple[int, str, list[str]]:
    with pytest.raises(Problem) as caught:
        parse_request(fields, tenant)
    problem = caught.value
    assert isinstance(problem.details, list)
    assert all(detail["reason"] and f"{detail['field']}: " in problem.message for detail in problem.details)
    return problem.status, problem.code, [detail["field"] for detail in problem.details]


def test_all_may_be_left_out() -> None:
    expected = TranslateRequest(src_lang="zh", tgt_lang="en")
    assert parse() == expected
    assert parse(**dict.fromkeys(FIELDS, " ")) == expected, "a page sends empty fields"
    assert parse(nobody_knows="x") == expected
    assert (expected.tts, expected.output_format) == (True, OutputFormat.WAV)


def test_languages_of_the_tenant_are_the_default() -> None:
    tenant = msgspec.structs.replace(TENANT, default_src_lang="auto", default_tgt_lang="PT-br")
    assert parse(tenant) == TranslateRequest(src_lang="auto", tgt_lang="pt")


def test_all_is_read() -> None:
    assert parse(
        src_lang="auto",
        tgt_lang="EN-US",
        audio_format="opus",
        sample_rate="48000",
        dialect="四川话",
        features='{"emotion_detection": true, "persona_adaptation": false, "speech_rate_control": null}',
        auto_langs="zh-cn, ko,zh",
        tts="False",
        output_format="ogg_opus",
    ) == TranslateRequest(
        src_lang="auto",
        tgt_lang="en",
        audio_format=AudioFormat.OPUS,
        sample_rate=48000,
        dialect="四川话",
        features=FeatureFlags(emotion_detection=True, persona_adaptation=False),
        auto_langs=["zh", "ko"],
        tts=False,
        output_format=OutputFormat.OGG_OPUS,
    )


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("zh", "zh"),
        ("ZH-TW", "zh"),
        ("yue", "yue"),
        ("sr-Latn-RS", "sr-latn-rs"),
        ("en-gb", "en"),
        ("iw", "he"),
    ],
)
def test_languages_are_normalised(given: str, code: str) -> None:
    assert parse(src_lang="fr", tgt_lang=given).tgt_lang == code


@pytest.mark.parametrize(
    "given", ["e", "engl", "en_US", "e1", "en-", "-en", "en us", "язык", "en-x*", "a" * 99]
)
def test_what_is_no_code_is_refused(given: str) -> None:
    for field in ("src_lang", "tgt_lang"):
        assert refused(**{field: given}) == (422, "unsupported_language", [field])


def test_a_target_is_named_and_another_language() -> None:
    assert refused(tgt_lang="auto") == (422, "unsupported_language", ["tgt_lang"])
    assert refused(src_lang="en-us", tgt_lang="en-GB") == (422, "unsupported_language", ["tgt_lang"])
    assert refused(tgt_lang="zh") == (422, "unsupported_language", ["tgt_lang"]), "the default source"


class TestTwoWay:
    def test_the_pair_is_enough(self) -> None:
        assert parse(mode="two_way_auto", lang_a="KO", lang_b="ja") == TranslateRequest(
            src_lang="auto",
            tgt_lang="ja",
            mode="two_way_auto",
            lang_a="ko",
            lang_b="ja",
            auto_langs=["ko", "ja"],
        )

    def test_what_real_clients_send_beside_it_is_taken(self) -> None:
        fields = {
            "src_lang": "auto",
            "tgt_lang": "ko",
            "lang_a": "ko",
            "lang_b": "ja",
            "auto_langs": '["ko"]',
        }
        found = parse(mode="two_way_auto", **fields)
        assert (found.src_lang, found.tgt_lang, found.auto_langs) == ("auto", "ko", ["ko"])

    @pytest.mark.parametrize(
        ("fields", "wrong"),
        [
            ({}, ["lang_a", "lang_b"]),
            ({"lang_a": "ko"}, ["lang_b"]),
            ({"lang_a": "ko", "lang_b": "ja", "src_lang": "fr", "tgt_lang": "de"}, ["src_lang", "tgt_lang"]),
        ],
    )
    def test_what_is_missing_or_too_much_is_named(self, fields: dict[str, str], wrong: list[str]) -> None:
        assert refused(mode="two_way_auto", **fields) == (422, "invalid_field", wrong)

    def test_two_languages_are_needed(self) -> None:
        same = {"mode": "two_way_auto", "lang_a": "zh", "lang_b": "zh-CN"}
        assert refused(**same) == (422, "unsupported_language", ["lang_b"])
        assert refused(**{**same, "lang_b": "auto"}) == (422, "unsupported_language", ["lang_b"])

    def test_a_pair_without_the_mode_is_a_mistake(self) -> None:
        assert refused(lang_a="ko", lang_b="ja") == (422, "invalid_field", ["lang_a", "lang_b"])
        assert refused(mode="both", lang_a="ko", lang_b="ja") == (422, "invalid_field", ["mode"])


class TestAccount:
    def test_languages_of_the_account_are_allowed(self) -> None:
        assert parse(FEW, src_lang="zh-tw", tgt_lang="en").src_lang == "zh"
        assert parse(FEW, mode="two_way_auto", lang_a="ko", lang_b="en").lang_a == "ko"
        assert parse(FEW, src_lang="auto", auto_langs="zh,ko").auto_langs == ["zh", "ko"]
        tenant = msgspec.structs.replace(FEW, allowed_languages=("auto", "en"))
        assert parse(tenant, src_lang="auto").src_lang == "auto"

    @pytest.mark.parametrize(
        ("fields", "wrong"),
        [
            ({"src_lang": "fr"}, ["src_lang"]),
            ({"tgt_lang": "fr"}, ["tgt_lang"]),
            ({"src_lang": "auto"}, ["src_lang"]),
            ({"src_lang": "auto", "auto_langs": "zh,fr"}, ["auto_langs"]),
            ({"mode": "two_way_auto", "lang_a": "fr", "lang_b": "de"}, ["lang_a", "lang_b"]),
        ],
    )
    def test_other_languages_are_not(self, fields: dict[str, str], wrong: list[str]) -> None:
        assert refused(FEW, **fields) == (422, "unsupported_language", wrong)

    def test_defaults_that_the_account_may_not_use_are_named(self) -> None:
        tenant = msgspec.structs.replace(TENANT, allowed_languages=("fr", "de"))
        assert refused(tenant) == (422, "unsupported_language", ["src_lang", "tgt_lang"])

    def test_features_of_the_account(self) -> None:
        assert parse(FEW, features='{"emotion_detection": true, "speech_rate_control": false}').features
        refusal = refused(FEW, features='{"speech_rate_control": true}')
        assert refusal == (422, "unsupported_feature", ["features"])


class TestFields:
    @pytest.mark.parametrize(
        "given", ["0", "7999", "48001", "-8000", "16000.0", "1e4", "16k", "9" * 4000, "１６０００"]
    )
    def test_sample_rate(self, given: str) -> None:
        assert refused(sample_rate=given) == (422, "invalid_sample_rate", ["sample_rate"])

    def test_audio_format(self) -> None:
        assert refused(audio_format="mp3") == (415, "unsupported_audio_format", ["audio_format"])

    @pytest.mark.parametrize(
        ("field", "given"),
        [
            ("mode", "both"),
            ("tts", "perhaps"),
            ("output_format", "mp3"),
            ("dialect", "x" * 65),
            ("dialect", "a\nb"),
            ("features", "emotion_detection"),
            ("features", "[true]"),
            ("features", '{"emotion_detection": 1}'),
            ("features", "[" * 4096),
            ("auto_langs", ","),
            ("auto_langs", "[]"),
            ("auto_langs", "[1]"),
            ("auto_langs", "[" * 4096),
            ("auto_langs", ",".join(["en"] * 17)),
        ],
    )
    def test_others(self, field: str, given: str) -> None:
        status, _, wrong = refused(**{field: given})
        assert (status, wrong) == (422, [field])

    def test_unknown_features(self) -> None:
        assert refused(features='{"x": true}') == (422, "unsupported_feature", ["features"])
        assert parse(features="{}").features is None

    @pytest.mark.parametrize(
        ("given", "value"), [("true", True), ("1", True), ("FALSE", False), ("0", False)]
    )
    def test_tts(self, given: str, value: bool) -> None:
        assert parse(tts=given).tts is value


def test_all_that_is_wrong_is_told_at_once() -> None:
    refusal = refused(src_lang="x", sample_rate="1", audio_format="mp3", features="?", tts="?")
    assert refusal[:2] == (422, "invalid_field")
    assert sorted(refusal[2]) == ["audio_format", "features", "sample_rate", "src_lang", "tts"]


VALUES = st.sampled_from(
    ["auto", "zh", "en", "ko", "two_way_auto", "true", "16000", "wav", "{}", "[]", "zh,ko"]
)


@given(
    fields=st.dictionaries(st.sampled_from(FIELDS), VALUES | st.text(max_size=20)),
    tenant=st.sampled_from([TENANT, FEW]),
)
def test_any_fields_are_a_request_or_a_problem(fields: dict[str, str], tenant: Tenant) -> None:
    with suppress(Problem):
        found = parse_request(fields, tenant)
        assert found.src_lang
        assert found.tgt_lang not in ("", "auto")
        assert found.src_lang != found.tgt_lang or found.mode == "two_way_auto"
        assert msgspec.convert(json.loads(msgspec.json.encode(found)), TranslateRequest) == found
