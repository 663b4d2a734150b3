"""Sound that can be told from noise after it was coded, sent and decoded."""

from __future__ import annotations

import math
from base64 import b64decode
from typing import Any

import numpy as np
from harness import base64

from linguad import audio

HERTZ, PEAK = 440.0, 8000


def tone(seconds: float = 1.0) -> bytes:
    """Plan A records of a tone, as nodes and web clients send speech."""
    at = np.arange(round(seconds * audio.WIRE_RATE)) / audio.WIRE_RATE
    pcm16 = (PEAK * np.sin(2 * math.pi * HERTZ * at)).astype("<i2").tobytes()
    return audio.encode_plan_a(pcm16, audio.WIRE_RATE)


def speech(seconds: float = 1.0) -> str:
    """A tone as a node would send it."""
    return base64(tone(seconds))


def is_tone(result: dict[str, Any], seconds: float) -> bool:
    """Whether a result sounds as `tone` when its bytes are taken for PCM16 at 16 kHz."""
    pcm16 = b64decode(result["tts_audio"], validate=True)
    samples = np.frombuffer(pcm16, "<i2").astype(float)
    loudness = float(np.sqrt(np.mean(samples**2)))
    return len(pcm16) == round(seconds * 50) * 640 and 0.9 < loudness / (PEAK / math.sqrt(2)) < 1.1
