"""A caller and a core that do what a test tells them, around a `Conversation`."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from linguad.core.tenant import Tenant
from linguad.errors import CloseReason
from linguad.gateway.stream.actions import (
    Action,
    Authenticate,
    Close,
    HangUp,
    Open,
    Release,
    Say,
    Stream,
    Utter,
)
from linguad.gateway.stream.conversation import Conversation
from linguad.gateway.stream.rules import StreamRules
from linguad.web.problems import Problem
from linguad.wire import codec
from linguad.wire.session import AsrPartial, MissingResult, ServerMessage, TranslationResult, UiEvent

TENANT = Tenant(id="t-1", name="Test", created_at=0.0, updated_at=0.0)
KEY = "lk_test_abcdefghijkl_secret"
RULES = StreamRules()
SESSION = "s-1"

Json = dict[str, Any]


def base64(data: bytes) -> str:
    return b64encode(data).decode()


def pcm(milliseconds: int = 100, rate: int = 16_000) -> bytes:
    return b"\1\0" * (rate * milliseconds // 1000)


def result(index: int, **members: Any) -> TranslationResult:
    return TranslationResult(
        **{
            "session_id": SESSION,
            "utterance_index": index,
            "job_id": f"j-{index}",
            "text_asr": f"heard {index}",
            "text_translated": f"said {index}",
            "tts_audio": base64(pcm(20)),
            "tts_format": "pcm16",
            "trace_id": "trace",
            **members,
        }
    )


def missing(index: int, reason: str = "silence_detected") -> MissingResult:
    return MissingResult(session_id=SESSION, utterance_index=index, reason=reason, created_at_ms=0)


def partial(index: int, text: str = "hea", *, is_final: bool = False) -> AsrPartial:
    return AsrPartial(
        session_id=SESSION,
        utterance_index=index,
        job_id=f"j-{index}",
        text=text,
        is_final=is_final,
        trace_id="trace",
    )


def event(index: int, name: str, *, job: bool = True, **members: Any) -> UiEvent:
    return UiEvent(
        **{
            "trace_id": "trace",
            "session_id": SESSION,
            "job_id": f"j-{index}" if job else "",
            "utterance_index": index,
            "event": name,
            "status": "error" if name == "ERROR" else "ok",
            **members,
        }
    )


class Stage:
    """A conversation, what was heard of it, and what it did to the core."""

    def __init__(self, *, known: bool = True, rules: StreamRules = RULES) -> None:
        self.now = 0.0
        self.conversation = Conversation(rules, "r-1", TENANT if known else None, 0.0)
        self.full: Problem | None = None
        """Why no session can be opened."""
        self.heard: list[Json] = []
        self.uttered: list[bytes] = []
        self.streamed: list[tuple[bytes, bool]] = []
        self.hung_up = 0
        self.open = False
        self.closed: CloseReason | None = None

    def say(self, frame: Json | str | bytes) -> list[Json]:
        """A frame of the client; what it hears at once."""
        text = json.dumps(frame) if isinstance(frame, dict) else frame
        return self.perform(self.conversation.take(text, self.now))

    def start(self, **members: Any) -> Json:
        (started,) = self.say({"type": "start", **members})
        assert started["type"] == "started", started
        return started

    def audio(self, data: bytes | None = None, **members: Any) -> list[Json]:
        chunk = base64(pcm() if data is None else data)
        return self.say({"type": "audio", "chunk": chunk, **members})

    def news(self, message: ServerMessage) -> list[Json]:
        """A message of the core; what the client hears of it."""
        return self.perform(self.conversation.news(message, self.now))

    def over(self, reason: CloseReason | None = None) -> list[Json]:
        return self.perform(self.conversation.over(reason, self.now))

    def stop(self) -> list[Json]:
        return self.perform(self.conversation.stop(self.now))

    def abandon(self) -> list[Json]:
        return self.perform(self.conversation.abandon())

    def wait(self, seconds: float) -> list[Json]:
        """Let time pass, with every deadline on the way."""
        end, heard = self.now + seconds, list[Json]()
        while (due := self.conversation.due()) is not None and due <= end:
            self.now = max(self.now, due)
            heard += self.perform(self.conversation.tick(self.now))
        self.now = end
        return heard

    def perform(self, actions: list[Action]) -> list[Json]:
        before = len(self.heard)
        for action in actions:
            assert self.closed is None, "nothing happens after the end"
            self._do(action)
        return self.heard[before:]

    def _do(self, action: Action) -> None:
        match action:
            case Say(message=message):
                self.heard.append(json.loads(codec.encode(message)))
            case Authenticate(token=token):
                if token == KEY:
                    self.perform(self.conversation.authenticated(TENANT, self.now))
                else:
                    problem = Problem(401, "invalid_credentials", "The key is not valid.")
                    self.perform(self.conversation.rejected(problem))
            case Open(opening=opening):
                if self.full is not None:
                    self.perform(self.conversation.not_opened(self.full, self.now))
                    return
                assert not self.open, "one session at a time"
                self.open = True
                self.uttered.clear()
                self.perform(self.conversation.opened(opening, SESSION, "trace", self.now))
            case Utter(audio=audio):
                assert self.open
                self.uttered.append(audio)
            case Stream(audio=audio, final=final):
                assert self.open
                self.streamed.append((audio, final))
            case HangUp():
                assert self.open
                self.hung_up += 1
            case Release():
                assert self.open, "released once"
                self.open = False
            case Close(reason=reason):
                assert not self.open, "released before"
                self.closed = reason
