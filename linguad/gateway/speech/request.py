"""What a customer asks for: the fields of a translation, checked all at once (gateway 5.1).

A field that is empty counts as left out, as forms of web pages send it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct

from linguad.core.tenant import Tenant
from linguad.gateway.speech.sound import (
    MAX_RATE,
    MIN_RATE,
    WRONG_FORMAT,
    WRONG_RATE,
    AudioFormat,
    OutputFormat,
)
from linguad.web.problems import Problem
from linguad.wire.common import FeatureFlags
from linguad.wire.language import AUTO, normalize

MAX_DIALECT = 64
"""Longest name of a dialect, in characters."""

MAX_AUTO_LANGS = 16
"""Languages among which one may be detected; with more, detection is no better than without a list."""

FEATURES = FeatureFlags.__struct_fields__
"""The six flags (gateway 8.2)."""

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{1,8}){0,3}")
_E = TypeVar("_E", bound=StrEnum)


class Mode(StrEnum):
    """Who speaks: one language into another, or two people in two languages."""

    ONE_WAY = "one_way"
    TWO_WAY = "two_way_auto"


Language = Annotated[str, Meta(description="A language code, such as `zh`, `en` or `pt-br`.")]


class TranslateRequest(Struct, frozen=True, kw_only=True):
    """The fields of a translation beside its audio."""

    src_lang: Annotated[
        Language,
        Meta(description="What is spoken, or `auto`. Left out: the default of your account, else `zh`."),
    ] = "zh"
    tgt_lang: Annotated[
        Language,
        Meta(description="What to translate into. Left out: the default of your account, else `en`."),
    ] = "en"
    audio_format: Annotated[
        AudioFormat | None,
        Meta(
            description="`pcm16` (raw samples, the default), `wav`, or `opus` (an Ogg file or framed "
            "packets). WAV and Ogg files are recognised without it."
        ),
    ] = None
    sample_rate: Annotated[
        Annotated[int, Meta(ge=MIN_RATE, le=MAX_RATE)] | None,
        Meta(description="Of `pcm16`, in Hz; 16000 if left out. WAV files say it themselves."),
    ] = None
    dialect: Annotated[
        Annotated[str, Meta(max_length=MAX_DIALECT)] | None,
        Meta(description="Dialect of what is spoken, as nodes name it."),
    ] = None
    features: Annotated[
        FeatureFlags | None, Meta(description="Optional abilities, a JSON object of flags.")
    ] = None
    mode: Annotated[
        Mode,
        Meta(description="`two_way_auto` translates `lang_a` into `lang_b` and `lang_b` into `lang_a`."),
    ] = Mode.ONE_WAY
    lang_a: Annotated[Language | None, Meta(description="One language of `two_way_auto`.")] = None
    lang_b: Annotated[Language | None, Meta(description="The other language of `two_way_auto`.")] = None
    auto_langs: Annotated[
        Annotated[list[Language], Meta(max_length=MAX_AUTO_LANGS)] | None,
        Meta(description="Languages among which `auto` decides: a JSON list, or codes with commas."),
    ] = None
    tts: Annotated[bool, Meta(description="False asks for text only.")] = True
    output_format: Annotated[
        OutputFormat,
        Meta(description="Format of the speech: `packets` is as the node made it, framed Opus."),
    ] = OutputFormat.WAV


FIELDS = TranslateRequest.__struct_fields__
"""Names of the fields."""


class Wrong(NamedTuple):
    """Why a field cannot be used."""

    field: str
    reason: str
    code: str = "invalid_field"


def parse_request(fields: Mapping[str, str], tenant: Tenant) -> TranslateRequest:
    """The request in the fields of a form, with the tenant's defaults.

    Raises one Problem that lists every field that is wrong: 422, with the code of its fields if that is one
    (`unsupported_language`, `unsupported_feature`, `invalid_sample_rate`), else `invalid_field`; 415
    `unsupported_audio_format` if that is all.
    """
    check = _Check(fields, tenant)
    mode = check.one_of("mode", Mode) or Mode.ONE_WAY
    lang_a, lang_b = check.language("lang_a"), check.language("lang_b")
    src_lang, tgt_lang = check.language("src_lang", auto=True), check.language("tgt_lang")
    auto_langs = check.auto_langs()
    if mode is Mode.TWO_WAY:
        check.pair(lang_a, lang_b, src_lang, tgt_lang)
        src_lang, tgt_lang = src_lang or AUTO, tgt_lang or lang_b
        auto_langs = auto_langs or [code for code in (lang_a, lang_b) if code]
    elif not check.is_wrong("mode"):
        src_lang = src_lang or normalize(tenant.default_src_lang)
        tgt_lang = tgt_lang or normalize(tenant.default_tgt_lang)
        check.direction(src_lang, tgt_lang, auto_langs)
    request = TranslateRequest(
        src_lang=src_lang or "",
        tgt_lang=tgt_lang or "",
        audio_format=check.one_of("audio_format", AudioFormat, WRONG_FORMAT, "unsupported_audio_format"),
        sample_rate=check.sample_rate(),
        dialect=check.dialect(),
        features=check.features(),
        mode=mode,
        lang_a=lang_a,
        lang_b=lang_b,
        auto_langs=auto_langs,
        tts=check.flag("tts", default=True),
        output_format=check.one_of("output_format", OutputFormat) or OutputFormat.WAV,
    )
    if check.wrong:
        raise _problem(check.wrong)
    return request


class _Check:
    """Reads fields and notes what is wrong with them; what is wrong is read as left out."""

    def __init__(self, fields: Mapping[str, str], tenant: Tenant) -> None:
        self._given = {name: text for name, value in fields.items() if (text := value.strip())}
        self._languages = _codes(tenant.allowed_languages)
        self._features = tenant.allowed_features
        self.wrong: list[Wrong] = []

    def note(self, field: str, reason: str, code: str = "invalid_field") -> None:
        """Say that a field is wrong; the first reason counts."""
        if not self.is_wrong(field):
            self.wrong.append(Wrong(field, reason, code))

    def is_wrong(self, field: str) -> bool:
        """Whether something was noted about a field."""
        return any(wrong.field == field for wrong in self.wrong)

    def one_of(self, field: str, kind: type[_E], reason: str = "", code: str = "invalid_field") -> _E | None:
        """A field with few possible values."""
        given = self._given.get(field)
        if given is None or given in set(kind):
            return None if given is None else kind(given)
        self.note(field, reason or f"use one of {', '.join(kind)}", code)
        return None

    def language(self, field: str, *, auto: bool = False) -> str | None:
        """A language code, normalised, that the tenant may use; `auto` only where it may be said."""
        given = self._given.get(field)
        return None if given is None else self._language(field, given, auto=auto)

    def _language(self, field: str, given: str, *, auto: bool) -> str | None:
        code = normalize(given)
        if code == AUTO and auto:
            return code
        if code == AUTO:
            self.note(field, "cannot be auto; name a language", "unsupported_language")
        elif not _LANGUAGE.fullmatch(code):
            self.note(field, "is no language code, such as zh, en or pt-br", "unsupported_language")
        else:
            self._allow(field, code)
            return code
        return None

    def _allow(self, field: str, code: str) -> None:
        if self._languages is not None and code not in self._languages:
            allowed = ", ".join(sorted(self._languages))
            self.note(field, f"is not among the languages of your account: {allowed}", "unsupported_language")

    def auto_langs(self) -> list[str] | None:
        """Languages to choose from: a JSON list, or codes with commas."""
        given = self._given.get("auto_langs")
        if given is None:
            return None
        listed: Any = given.split(",")
        if given.startswith("["):
            listed = _json(given)
        if not isinstance(listed, list) or not all(isinstance(code, str) for code in listed):
            self.note("auto_langs", 'is no list of codes, such as zh,en or ["zh","en"]')
            return None
        if not 0 < len(listed) <= MAX_AUTO_LANGS:
            self.note("auto_langs", f"name 1 to {MAX_AUTO_LANGS} languages")
            return None
        codes = [self._language("auto_langs", code, auto=False) for code in listed]
        return list(dict.fromkeys(code for code in codes if code))

    def pair(self, lang_a: str | None, lang_b: str | None, src: str | None, tgt: str | None) -> None:
        """The two languages of two-way mode, and that nothing else is asked for beside them."""
        for field, code in (("lang_a", lang_a), ("lang_b", lang_b)):
            if code is None:
                self.note(field, "is needed in mode two_way_auto")
        if lang_a is None or lang_b is None:
            return
        if lang_a == lang_b:
            self.note("lang_b", "must differ from lang_a", "unsupported_language")
        if src not in (None, AUTO, lang_a, lang_b):
            self.note("src_lang", "must be auto, lang_a or lang_b in mode two_way_auto")
        if tgt not in (None, lang_a, lang_b):
            self.note("tgt_lang", "must be lang_a or lang_b in mode two_way_auto")

    def direction(self, src: str, tgt: str, auto_langs: list[str] | None) -> None:
        """The languages of one-way mode, some of which may be defaults."""
        for field in ("lang_a", "lang_b"):
            if field in self._given:
                self.note(field, "is for mode two_way_auto only; leave it out or set the mode")
        if src == AUTO:
            if self._languages is not None and AUTO not in self._languages and not auto_langs:
                reason = "auto needs auto_langs, with languages of your account"
                self.note("src_lang", reason, "unsupported_language")
        else:
            self._allow("src_lang", src)
        self._allow("tgt_lang", tgt)
        if src == tgt and not self.is_wrong("src_lang"):
            self.note("tgt_lang", f"is {tgt} like src_lang; name another language", "unsupported_language")

    def sample_rate(self) -> int | None:
        """A rate in Hz."""
        given = self._given.get("sample_rate")
        if given is None:
            return None
        if re.fullmatch(r"[0-9]{1,6}", given) and MIN_RATE <= int(given) <= MAX_RATE:
            return int(given)
        self.note("sample_rate", WRONG_RATE, "invalid_sample_rate")
        return None

    def dialect(self) -> str | None:
        """A name."""
        given = self._given.get("dialect")
        if given is not None and not (len(given) <= MAX_DIALECT and given.isprintable()):
            self.note("dialect", f"may have {MAX_DIALECT} printable characters at most")
            return None
        return given

    def features(self) -> FeatureFlags | None:
        """The flags that are asked for; none is nothing."""
        given = self._given.get("features")
        if given is None:
            return None
        flags = _json(given)
        if not isinstance(flags, dict) or not all(isinstance(flag, bool | None) for flag in flags.values()):
            self.note("features", 'is no JSON object of flags, such as {"emotion_detection": true}')
            return None
        if unknown := sorted(flags.keys() - set(FEATURES)):
            reason = f"there is no {unknown[0][:64]}; use {', '.join(FEATURES)}"
            self.note("features", reason, "unsupported_feature")
            return None
        wanted = {name: flag for name, flag in flags.items() if flag is not None}
        for name, flag in wanted.items():
            if flag and self._features is not None and name not in self._features:
                self.note("features", f"your account does not have {name}", "unsupported_feature")
        return FeatureFlags(**wanted) if wanted else None

    def flag(self, field: str, *, default: bool) -> bool:
        """True or false."""
        given = self._given.get(field)
        if given is None:
            return default
        if given.lower() not in _FLAGS:
            self.note(field, "use true or false")
        return _FLAGS.get(given.lower(), default)


_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def _problem(wrong: list[Wrong]) -> Problem:
    codes = {each.code for each in wrong}
    code = codes.pop() if len(codes) == 1 else "invalid_field"
    message = "; ".join(f"{each.field}: {each.reason}" for each in wrong)
    details = [{"field": each.field, "reason": each.reason} for each in wrong]
    return Problem(415 if code == "unsupported_audio_format" else 422, code, message, details=details)


def _json(text: str) -> Any:
    """What a JSON text says; None if it says nothing."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _codes(languages: tuple[str, ...] | None) -> set[str] | None:
    return None if languages is None else {normalize(code) for code in languages}
