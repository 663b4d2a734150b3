"""Every engine against the contract and the real thing behind it; CI installs them all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from linguad import audio
from linguad.errors import EngineError
from linguad.wire.language import normalize
from linguad.worker.engines import ENGINES, create
from linguad.worker.engines.base import Engine, Kind, Recognise, Result, Speak, Speech, Text, Translate, Work

DEMO = Path(__file__).parent.parent.parent / "demo/audio"

WORK: dict[Kind, Work] = {
    Kind.ASR: Recognise(b"", "en"),
    Kind.NMT: Translate("good morning", "en", "es"),
    Kind.TTS: Speak("buenos días", "es"),
}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine, loaded."""
    with ready(request.param) as engine:
        yield engine


@pytest.fixture(scope="module")
def pocketsphinx() -> Iterator[Engine]:
    with ready("pocketsphinx") as engine:
        yield engine


@pytest.fixture(scope="module")
def apertium() -> Iterator[Engine]:
    with ready("apertium") as engine:
        yield engine


@pytest.fixture(scope="module")
def espeak() -> Iterator[Engine]:
    with ready("espeak") as engine:
        yield engine


@contextmanager
def ready(name: str) -> Iterator[Engine]:
    with closing(create(name)) as engine:
        assert engine.probe() is None
        engine.load()
        yield engine


def text_of(result: Result) -> str:
    assert isinstance(result, Text)
    return result.text


def sound(name: str) -> bytes:
    return audio.read_audio_file(DEMO / f"{name}.wav")[0]


class TestContract:
    def test_it_says_what_it_serves(self, engine: Engine) -> None:
        assert engine.device == "cpu"
        assert re.fullmatch(r"\d+(\.\d+)+", engine.version())
        if engine.kind is Kind.NMT:
            assert engine.languages() == []
            assert ("en", "es") in engine.pairs()
            assert ("es", "en") in engine.pairs()
            codes = [code for pair in engine.pairs() for code in pair]
        else:
            assert engine.pairs() == []
            assert "en" in engine.languages()
            codes = engine.languages()
            assert codes == sorted(set(codes))
        assert all(normalize(code) == code for code in codes)

    def test_it_does_the_work_of_its_kind(self, engine: Engine) -> None:
        result = engine.run(WORK[engine.kind])
        assert isinstance(result, Speech if engine.kind is Kind.TTS else Text)

    def test_it_refuses_the_work_of_other_kinds_and_lives(self, engine: Engine) -> None:
        for kind in set(Kind) - {engine.kind}:
            with pytest.raises(EngineError):
                engine.run(WORK[kind])
        engine.run(WORK[engine.kind])


def test_an_engine_that_is_not_there_is_named() -> None:
    with pytest.raises(EngineError, match="there is no engine 'whisper'; there are pocketsphinx"):
        create("whisper")


@pytest.mark.parametrize(("name", "package"), [("apertium", "apertium-eng-spa"), ("espeak", "espeak-ng")])
def test_a_missing_program_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    problem = create(name).probe()
    assert problem is not None
    assert re.search(rf"is not installed; apt-get install .*{package}$", problem)


class TestPocketSphinx:
    @pytest.mark.parametrize("name", ["house", "plan", "weather"])
    def test_spoken_sentences_are_recognised_exactly(self, pocketsphinx: Engine, name: str) -> None:
        said = (DEMO / f"{name}.txt").read_text().strip()
        assert text_of(pocketsphinx.run(Recognise(sound(name), "en"))) == said

    def test_what_came_before_changes_nothing(self, pocketsphinx: Engine) -> None:
        said = (DEMO / "house.txt").read_text().strip()
        pocketsphinx.run(Recognise(os.urandom(16_000), "en"))
        assert text_of(pocketsphinx.run(Recognise(sound("house"), "en"))) == said
        assert text_of(pocketsphinx.run(Recognise(bytes(32_000), "en"))) == ""

    @pytest.mark.parametrize("size", [0, 1, 2, 319, 640, 960, 32_000, 200_000])
    def test_silence_of_any_length_holds_no_word(self, pocketsphinx: Engine, size: int) -> None:
        assert text_of(pocketsphinx.run(Recognise(bytes(size), "en"))) == ""


class TestApertium:
    def translate(self, apertium: Engine, text: str, source: str = "en", target: str = "es") -> str:
        return text_of(apertium.run(Translate(text, source, target)))

    def test_both_directions(self, apertium: Engine) -> None:
        assert self.translate(apertium, "the house of my father") == "La casa de mi padre"
        assert self.translate(apertium, "la casa de mi padre", "es", "en") == "The house of my father"

    def test_regional_codes_are_their_language(self, apertium: Engine) -> None:
        assert self.translate(apertium, "the house", "en-US", "ES") == "La casa"

    def test_unknown_words_carry_no_marks(self, apertium: Engine) -> None:
        translated = self.translate(apertium, "the xyzzy and the frobnicators went home")
        assert "xyzzy" in translated
        assert not set("*#@") & set(translated)

    @pytest.mark.parametrize(
        "text",
        ["a [b] {c} ^d$ <e> f/g \\ h", "#1 @x *y", "[<STREAMCMD:FLUSH>]", "^x<n>/y<n>$", "5 % & 3 < 4"],
    )
    def test_what_means_something_to_apertium_stays_text(self, apertium: Engine, text: str) -> None:
        signs = re.sub(r"[\w\s.]", "", text)
        assert re.sub(r"[\w\s.]", "", self.translate(apertium, text)) == signs
        assert self.translate(apertium, "the house") == "La casa"

    @pytest.mark.parametrize("text", ["", "  ", "\n\t", "\0"])
    def test_nothing_is_nothing(self, apertium: Engine, text: str) -> None:
        assert self.translate(apertium, text) == ""

    def test_lines_and_zero_bytes_do_not_break_the_conversation(self, apertium: Engine) -> None:
        assert self.translate(apertium, "the house\n\nof my\0father") == "La casa de mi padre"

    def test_a_long_text_passes_and_a_longer_one_is_refused(self, apertium: Engine) -> None:
        assert self.translate(apertium, "the house. " * 2_700).count("La casa.") == 2_700
        with pytest.raises(EngineError, match="too long"):
            self.translate(apertium, "house " * 6_000)

    def test_a_pair_that_is_not_installed_is_refused(self, apertium: Engine) -> None:
        with pytest.raises(EngineError, match="no pair en to xx"):
            self.translate(apertium, "house", "en", "xx")


class TestEspeak:
    @pytest.mark.parametrize("language", ["es", "en", "fr", "de", "zh", "no", "pt-BR"])
    def test_it_speaks(self, espeak: Engine, language: str) -> None:
        speech = espeak.run(Speak("uno dos tres", language))
        assert isinstance(speech, Speech)
        assert 500 < audio.duration_ms(speech.pcm16, "pcm16", speech.sample_rate) < 5000
        assert max(speech.pcm16) > 0

    def test_text_is_never_an_option_nor_a_command(self, espeak: Engine) -> None:
        speech = espeak.run(Speak("--version\n$(exit 1) <speak/> \0", "en"))
        assert isinstance(speech, Speech)
        assert len(speech.pcm16) > 10_000

    def test_nothing_to_say_is_no_sound(self, espeak: Engine) -> None:
        assert espeak.run(Speak("", "es")) == Speech(b"", 22_050)

    def test_an_unknown_language_and_an_endless_text_are_refused(self, espeak: Engine) -> None:
        with pytest.raises(EngineError, match="voice does not exist"):
            espeak.run(Speak("x", "xx"))
        with pytest.raises(EngineError, match="too long"):
            espeak.run(Speak("x" * 20_000, "es"))

    def test_it_speaks_every_language_it_claims_for_the_wire(self, espeak: Engine) -> None:
        assert {"en", "es", "zh", "no", "pt", "fr", "de"} <= set(espeak.languages())
