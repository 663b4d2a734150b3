"""A run of PCM16 that comes in pieces: however it is cut, the same comes out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linguad import audio
from linguad.errors import AudioError

RATES = [4000, 8000, 11025, 16000, 22050, 24000, 44100, 48000, 192000]


def in_pieces(pcm16: bytes, rate: int, cuts: list[int]) -> bytes:
    resampler = audio.Resampler(rate)
    ends = [*sorted(cut % (len(pcm16) + 1) for cut in cuts), len(pcm16)]
    pieces = [pcm16[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return b"".join([*map(resampler.feed, pieces), resampler.finish()])


@settings(max_examples=100)
@given(
    rate=st.sampled_from(RATES),
    size=st.integers(0, 20_000),
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, 20_000), max_size=30),
)
def test_any_cutting_gives_the_whole(rate: int, size: int, seed: int, cuts: list[int]) -> None:
    noise = np.random.default_rng(seed).bytes(size)
    whole = audio.resample(noise, rate, audio.WIRE_RATE)
    assert in_pieces(noise, rate, cuts) == whole
    assert abs(len(whole) / 2 - size // 2 * audio.WIRE_RATE / rate) <= 1


@pytest.mark.parametrize("rate", [44100, 48000, 22050, 8000])
def test_a_tone_in_chunks_does_not_click(rate: int) -> None:
    at = np.arange(rate * 2) / rate
    pcm16 = (8000 * np.sin(2 * math.pi * 440 * at)).astype("<i2").tobytes()
    chunk = rate // 50 * 2 + 1
    heard = np.frombuffer(in_pieces(pcm16, rate, list(range(chunk, len(pcm16), chunk))), "<i2")
    expected = 8000 * np.sin(2 * math.pi * 440 * np.arange(32000) / 16000)
    middle = slice(1000, 31000)
    assert np.abs(heard[middle] - expected[middle]).max() < 80


def test_sound_comes_out_as_it_goes_in() -> None:
    """A live stream may wait for some milliseconds of the filter, not for its end."""
    resampler = audio.Resampler(48000)
    assert len(resampler.feed(bytes(2 * 48000))) > 0.99 * 32000


def test_nothing_is_nothing() -> None:
    assert audio.Resampler(44100).finish() == b""
    resampler = audio.Resampler(44100)
    assert resampler.feed(b"\1") + resampler.finish() == b""


@pytest.mark.parametrize("rate", [0, 3999, 192001])
def test_a_rate_of_no_sound_card_is_refused(rate: int) -> None:
    with pytest.raises(AudioError, match=f"{rate} Hz is not supported"):
        audio.Resampler(rate)
