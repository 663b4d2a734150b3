"""Engines that are fed from a hub, as far as they go without their packages: what they lack, what they serve.

The packages are hidden, so that the tests say the same on a machine that has them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from linguad.errors import EngineError
from linguad.worker.engines import NEEDS, create
from linguad.worker.engines.base import Recognise, Speak, Translate, Work
from linguad.worker.engines.faster_whisper import FILES as WHISPER_FILES
from linguad.worker.engines.m2m100 import FILES as M2M100_FILES
from linguad.worker.engines.m2m100 import VARIABLE
from linguad.worker.engines.model import lacking
from linguad.worker.engines.piper import FILES as PIPER_FILES

PACKAGES = {"faster-whisper": "faster_whisper", "m2m100": "ctranslate2", "piper": "piper"}
OTHERS: dict[str, Work] = {
    "faster-whisper": Translate("a", "en", "zh"),
    "m2m100": Speak("a", "en"),
    "piper": Recognise(b"", "en"),
}


@pytest.fixture(params=PACKAGES)
def name(request: pytest.FixtureRequest) -> str:
    given: str = request.param
    return given


@pytest.fixture(autouse=True)
def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in (*PACKAGES.values(), "sentencepiece"):
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr(sys, "path", [])


def voice(directory: Path, name: str, described: object) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.onnx").touch()
    (directory / f"{name}.onnx.json").write_text(json.dumps(described))


def test_a_missing_package_is_named_with_the_cure(name: str, tmp_path: Path) -> None:
    problem = create(name, tmp_path).probe()
    assert problem is not None
    assert problem.endswith(f" not installed; pip install 'linguad[{name}]'")


def test_it_refuses_other_work_and_work_before_it_is_loaded(name: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=f"{name} was asked for something else"):
        create(name, tmp_path).run(OTHERS[name])


def test_its_model_is_known_to_the_node(name: str) -> None:
    need = NEEDS[name]
    assert need.kind is create(name).kind
    assert {"en", "zh"} == set(need.languages)


@pytest.mark.parametrize(
    ("patterns", "files"),
    [
        (WHISPER_FILES, ["model.bin", "config.json", "tokenizer.json", "vocabulary.txt"]),
        (M2M100_FILES, ["model.bin", "shared_vocabulary.json", "sentencepiece.bpe.model"]),
        (PIPER_FILES, ["voices/en_US-lessac-medium.onnx", "voices/en_US-lessac-medium.onnx.json"]),
    ],
)
def test_a_directory_that_is_no_model_is_told_with_what_it_lacks(
    patterns: tuple[str, ...], files: list[str], tmp_path: Path
) -> None:
    problem = lacking("x", None, patterns)
    assert problem is not None
    assert "--hub" in problem
    problem = lacking("x", tmp_path, patterns)
    assert problem is not None
    assert problem.endswith(f"it lacks {', '.join(patterns)}")
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    assert lacking("x", tmp_path, patterns) is None


@pytest.mark.parametrize("form", ["shared_vocabulary.json", "shared_vocabulary.txt"])
def test_m2m100_serves_the_wanted_languages_that_its_model_has(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["<s>", "house", "__en__", "__zh__", "__fr__"]
    (tmp_path / form).write_text(json.dumps(words) if form.endswith("json") else "\n".join(words))
    engine = create("m2m100", tmp_path)
    assert engine.pairs() == [("en", "zh"), ("zh", "en")]
    monkeypatch.setenv(VARIABLE, "fr, de,EN")
    assert engine.pairs() == [("en", "fr"), ("fr", "en")]
    (tmp_path / form).write_text("{")
    assert engine.pairs() == []


def test_piper_has_one_voice_for_each_language(tmp_path: Path) -> None:
    voice(tmp_path / "b", "zh_CN-huayan-medium", {"language": {"family": "zh"}})
    voice(tmp_path, "en_US-lessac-medium", {"espeak": {"voice": "en-us"}})
    voice(tmp_path, "en_GB-alan-low", {"language": {"family": "en"}})
    voice(tmp_path, "xx-nonsense", [])
    (tmp_path / "de_DE-lonely.onnx").touch()
    engine = create("piper", tmp_path)
    assert engine.languages() == ["en", "zh"]
    with pytest.raises(EngineError, match=r"10001 characters is too long"):
        engine.run(Speak("a" * 10_001, "en"))
