"""What an engine is, and what it is asked and answers over its pipe (`linguad.worker.process`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import ClassVar

from msgspec import Struct

Pair = tuple[str, str]
"""Source and target language, as normalised codes."""


class Kind(StrEnum):
    """The stage an engine does; the value is the service type on the wire (node-protocol 2.12)."""

    ASR = "asr"
    NMT = "nmt"
    TTS = "tts"


class Message(Struct, frozen=True, tag=True):
    """Base of what travels over an engine's pipe."""


class Load(Message, frozen=True):
    """Make the engine ready; answered by Ready."""


class Recognise(Message, frozen=True):
    """Speech to text; `pcm16` is mono at 16 kHz."""

    pcm16: bytes
    language: str


class Translate(Message, frozen=True):
    """Text to text."""

    text: str
    source: str
    target: str


class Speak(Message, frozen=True):
    """Text to speech."""

    text: str
    language: str


class Hello(Message, frozen=True):
    """First message of an engine's process: what it can do, and why it cannot where it cannot."""

    kind: Kind
    device: str
    """`cpu` or `gpu`."""
    version: str
    languages: list[str]
    """What an ASR or TTS engine understands or speaks."""
    pairs: list[Pair]
    """What a translation engine translates."""
    problem: str | None
    """None if usable, else one sentence with the cure."""


class Ready(Message, frozen=True):
    """The engine is loaded."""


class Text(Message, frozen=True):
    """What was recognised or translated; empty if there was nothing."""

    text: str


class Speech(Message, frozen=True):
    """What was spoken: PCM16 mono at `sample_rate` Hz."""

    pcm16: bytes
    sample_rate: int


class Failed(Message, frozen=True):
    """The request failed, the engine lives; `sentence` is for a person."""

    sentence: str


Request = Load | Recognise | Translate | Speak
"""Node to engine; each is answered by exactly one Reply."""

Work = Recognise | Translate | Speak
"""Requests that `Engine.run` gets: those of its own kind."""

Result = Text | Speech
"""What `Engine.run` gives."""

Reply = Ready | Text | Speech | Failed
"""Engine to node, after its Hello."""


class Engine(ABC):
    """One stage of the pipeline, alone in its own process; nothing in it needs to be concurrent.

    An EngineError raised by `load` or `run` fails that request with its text. Any other exception ends the
    process, and the node starts it anew.
    """

    kind: ClassVar[Kind]
    device: ClassVar[str] = "cpu"
    """What it calculates on: `cpu` or `gpu`."""

    @abstractmethod
    def probe(self) -> str | None:
        """None if the engine can work here, else one sentence with the cure; called once, before all else."""

    def version(self) -> str:
        """Version of the engine, for the node's registration; empty if unknown."""
        return ""

    def languages(self) -> list[str]:
        """Languages an ASR or TTS engine serves; called only on a usable engine."""
        return []

    def pairs(self) -> list[Pair]:
        """Pairs a translation engine serves; called only on a usable engine."""
        return []

    def load(self) -> None:  # noqa: B027 - most engines have nothing to load
        """Do what is slow once: read models, start helpers."""

    def close(self) -> None:  # noqa: B027 - as above
        """End what `load` and `run` have started."""

    @abstractmethod
    def run(self, request: Work) -> Result:
        """Do one request of this engine's kind. Raises EngineError."""
