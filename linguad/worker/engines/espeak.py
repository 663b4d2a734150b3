"""Speech synthesis by eSpeak NG, in every language its installation speaks."""

from __future__ import annotations

import shutil
import subprocess

from linguad.errors import EngineError
from linguad.wire.language import normalize
from linguad.worker.engines.base import Engine, Kind, Speak, Speech, Work

COMMAND = "espeak-ng"

SPEAK_SECONDS = 30
"""A start of the command and a sentence take 0.1 s; the node's own deadline for an engine is longer."""

MAX_TEXT_CHARS = 10_000
"""A quarter of an hour of speech, more than any utterance."""

_VOICES = {"zh": "cmn", "no": "nb"}
"""Voices whose name is not the language's code on the wire."""


class Espeak(Engine):
    """About 60 ms for a sentence; one short-lived command for each."""

    kind = Kind.TTS

    def probe(self) -> str | None:
        if shutil.which(COMMAND) is None:
            return f"{COMMAND} is not installed; apt-get install espeak-ng"
        if not self.languages():
            return f"{COMMAND} has no voices; apt-get install --reinstall espeak-ng-data"
        return None

    def version(self) -> str:
        return _espeak("--version").decode().partition("text-to-speech:")[2].split()[0]

    def languages(self) -> list[str]:
        rows = _espeak("--voices").decode().splitlines()[1:]
        voices = [row.split()[1] for row in rows if len(row.split()) > 1]
        # The command takes a language alone too where, as for English, only its regions have voices.
        plain = {voice.lower().partition("-")[0] for voice in voices}
        return sorted(plain | {language for language, voice in _VOICES.items() if voice in plain})

    def run(self, request: Work) -> Speech:
        if not isinstance(request, Speak):
            raise EngineError("espeak was asked for something else than to speak")
        if len(request.text) > MAX_TEXT_CHARS:
            raise EngineError(f"a text of {len(request.text)} characters is too long to be spoken")
        language = normalize(request.language)
        text = request.text.replace("\0", " ").encode()
        sound = _espeak("-v", _VOICES.get(language, language), "-b", "1", "--stdin", "--stdout", text=text)
        return _speech(sound)


def _espeak(*arguments: str, text: bytes = b"") -> bytes:
    """Standard output of the command. Raises EngineError with its own complaint if it fails."""
    try:
        done = subprocess.run(
            [COMMAND, *arguments], input=text, capture_output=True, check=True, timeout=SPEAK_SECONDS
        )
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").strip().splitlines()
        raise EngineError(f"{COMMAND} failed: {words[-1] if words else error.returncode}") from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{COMMAND} did not end within {SPEAK_SECONDS} s") from error
    except OSError as error:
        raise EngineError(f"{COMMAND} cannot be started: {error.strerror}") from error
    return done.stdout


def _speech(wav: bytes) -> Speech:
    """The sound of a WAV stream, whose header cannot know its length; nothing at all is silence."""
    data = wav.find(b"data")
    if data < 0:
        return Speech(b"", 22_050)
    return Speech(wav[data + 8 :], int.from_bytes(wav[24:28], "little"))
