"""Sound files in memory: what is written is read by libsndfile, and no header makes us believe it.

Rules: real codecs; files of strangers are played through `read_sound` with every lie that is known.
"""

from __future__ import annotations

import io
import math
import struct
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from linguad import audio
from linguad.audio import riff
from linguad.errors import AudioError

few = settings(max_examples=100)

LIMIT = 5.0
"""Seconds that are read at most in these tests."""


def tone(seconds: float, rate: int = audio.WIRE_RATE) -> bytes:
    at = np.arange(round(seconds * rate)) / rate
    return (8000 * np.sin(2 * math.pi * 440 * at)).astype("<i2").tobytes()


def loudness(pcm: bytes) -> float:
    return float(np.sqrt(np.mean(np.frombuffer(pcm, "<i2").astype(float) ** 2)))


def wav(
    sound: bytes,
    *,
    data_size: int | None = None,
    riff_size: int | None = None,
    kind: int = 1,
    channels: int = 1,
    bits: int = 16,
    rate: int = 16000,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A WAV file in which any number may be wrong."""
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * frame & 0xFFFFFFFF, frame & 0xFFFF, bits)
    size = len(sound) if data_size is None else data_size
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + before
    body += b"data" + struct.pack("<I", size) + sound + after
    return b"RIFF" + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    content_size = len(content) if size is None else size
    return name + struct.pack("<I", content_size) + content + b"\0" * (len(content) & 1)


class TestWritten:
    @few
    @given(count=st.integers(0, 3000), rate=st.sampled_from([8000, 16000, 22050, 44100, 48000]))
    def test_wav_holds_every_sample(self, count: int, rate: int) -> None:
        pcm = tone(count / rate, rate)
        read, at = soundfile.read(io.BytesIO(audio.wav(pcm + b"\1", rate)), dtype="int16")
        assert (read.astype("<i2").tobytes(), at) == (pcm, rate)

    @settings(max_examples=15)
    @given(
        seconds=st.floats(0.001, 3),
        rate=st.sampled_from([4000, 8000, 11025, 16000, 22050, 24000, 44100, 48000, 96000]),
    )
    def test_ogg_opus_lasts_as_long_as_the_sound(self, seconds: float, rate: int) -> None:
        pcm = tone(seconds, rate)
        info = soundfile.info(io.BytesIO(audio.ogg_opus(pcm, rate)))
        assert (info.format, info.subtype, info.channels) == ("OGG", "OPUS", 1)
        assert info.duration == pytest.approx(len(pcm) / 2 / rate, abs=1.1 / info.samplerate)

    def test_ogg_opus_sounds_like_the_sound(self) -> None:
        pcm = tone(2)
        back = audio.read_sound(audio.ogg_opus(pcm, 16000), max_seconds=LIMIT)
        assert (len(back.pcm16), back.seconds, back.rate) == (len(pcm), 2.0, 16000)
        assert loudness(back.pcm16) == pytest.approx(loudness(pcm), rel=0.05)

    def test_no_sound_is_no_ogg_file(self) -> None:
        assert audio.ogg_opus(b"", 16000) == b""


class TestWav:
    @pytest.mark.parametrize(
        "file",
        [
            wav(tone(1)),
            wav(tone(1), data_size=0xFFFFFFFF, riff_size=0xFFFFFFFF),
            wav(tone(1), data_size=0x7FFFFFFF, riff_size=0x7FFFFFFF),
            wav(tone(1), data_size=0x7FFFFFFF - 36, riff_size=0),
            wav(tone(1), data_size=0, riff_size=0),
            wav(tone(1), data_size=0),
            wav(tone(1), data_size=10**6),
            wav(tone(1), riff_size=4),
            wav(tone(1), before=chunk(b"LIST", b"INFOabc")),
            wav(tone(1), before=chunk(b"junk", bytes(1001)), data_size=0xFFFFFFFF),
            wav(tone(1), after=chunk(b"LIST", b"INFOabcd")),
            wav(tone(1, 48000), rate=48000),
            wav(tone(1, 8000), rate=8000, data_size=0xFFFFFFFF),
        ],
        ids=lambda file: file[:8].hex() + file[36:44].hex(),
    )
    def test_lying_sizes_hide_no_sound(self, file: bytes) -> None:
        sound = audio.read_sound(file, max_seconds=LIMIT)
        assert sound.seconds == 1.0
        assert len(sound.pcm16) == 32000
        assert loudness(sound.pcm16) == pytest.approx(loudness(tone(1)), rel=0.02)

    @pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
    @pytest.mark.parametrize(("kind", "channels"), [("WAV", 1), ("WAV", 2), ("WAVEX", 6)])
    def test_other_samples_are_converted_and_mixed(self, subtype: str, kind: str, channels: int) -> None:
        file = io.BytesIO()
        sound = (np.frombuffer(tone(1, 44100), "<i2") / 32768).reshape(-1, 1).repeat(channels, axis=1)
        soundfile.write(file, sound, 44100, subtype=subtype, format=kind)
        read = audio.read_sound(file.getvalue(), max_seconds=LIMIT)
        assert (len(read.pcm16), read.rate) == (32000, 44100)
        assert loudness(read.pcm16) == pytest.approx(loudness(tone(1)), rel=0.05)

    @pytest.mark.parametrize(
        ("file", "sentence"),
        [
            (wav(b""), "holds no sound"),
            (wav(b"", after=chunk(b"LIST", b"INFOabcd")), "holds no sound"),
            (wav(tone(1), channels=0), "not a sound file"),
            (wav(tone(1), channels=65535), "not a sound file"),
            (wav(tone(1), bits=0), "not a sound file"),
            (wav(tone(1), kind=2), "not a sound file"),
            (wav(tone(1), rate=0), "not a sound file"),
            (wav(tone(1), rate=0xFFFFFFFF), "not"),
            (wav(tone(1), rate=3999), "3999 Hz is not supported"),
            (wav(tone(1), before=chunk(b"junk", b"abcd", 0xFFFFFFF0)), "not a sound file"),
            (b"RIFF" + bytes(4) + b"WAVE", "not a sound file"),
            (b"RIFF", "not a sound file"),
            (b"PK\3\4" + bytes(100), "not a sound file"),
            (b"RIFF" + bytes(4) + b"WAVE" + b"fact\0\0\0\0" * 100_000, "not a sound file"),
        ],
    )
    def test_other_lies_are_refused(self, file: bytes, sentence: str) -> None:
        with pytest.raises(AudioError, match=sentence):
            audio.read_sound(file, max_seconds=LIMIT)

    def test_is_wav(self) -> None:
        assert audio.is_wav(wav(b""))
        assert not audio.is_wav(b"RIFF1234AVI ")
        assert not audio.is_wav(b"RIFF")

    def test_a_true_file_is_not_copied(self) -> None:
        file = wav(tone(1))
        assert riff.repaired(file) is file

    @few
    @given(data=st.data())
    def test_any_header_is_read_or_refused(self, data: st.DataObject) -> None:
        file = bytearray(wav(tone(0.2), before=chunk(b"LIST", b"INFOab")))
        for _ in range(data.draw(st.integers(1, 10))):
            file[data.draw(st.integers(0, 70))] = data.draw(st.integers(0, 255))
        with suppress(AudioError):
            sound = audio.read_sound(bytes(file), max_seconds=LIMIT)
            assert 0 < len(sound.pcm16) <= LIMIT * 32000

    @few
    @given(
        sizes=st.tuples(*[st.integers(0, 0xFFFFFFFF)] * 2),
        channels=st.integers(0, 1100),
        bits=st.sampled_from([8, 16, 24, 32]),
        rate=st.integers(0, 0xFFFFFFFF) | st.integers(4000, 192000),
    )
    def test_claims_take_no_memory(self, sizes: tuple[int, int], channels: int, bits: int, rate: int) -> None:
        file = wav(
            bytes(20_000), data_size=sizes[0], riff_size=sizes[1], channels=channels, bits=bits, rate=rate
        )
        tracemalloc.start()
        try:
            with suppress(AudioError):
                audio.read_sound(file, max_seconds=LIMIT)
            assert tracemalloc.get_traced_memory()[1] < 5_000_000
        finally:
            tracemalloc.stop()


class TestPlainFiles:
    """Mono PCM16 with true sizes does not need libsndfile, and sounds the same without it."""

    @few
    @given(
        sound=st.binary(max_size=2000),
        rate=st.sampled_from([8000, 16000, 44100]),
        before=st.sampled_from([b"", chunk(b"LIST", b"INFOab"), chunk(b"fact", b"\0\0\0\0")]),
        after=st.sampled_from([b"", chunk(b"LIST", b"INFO")]),
    )
    def test_as_libsndfile_reads_them(self, sound: bytes, rate: int, before: bytes, after: bytes) -> None:
        sound += b"\0" * (len(sound) % 2)
        file = wav(sound, rate=rate, before=before, after=after)
        samples, known_rate = soundfile.read(io.BytesIO(file), dtype="<i2")
        assert riff.plain(file) == (known_rate, samples.tobytes())

    @pytest.mark.parametrize(
        "file",
        [
            wav(b"ab", kind=3, bits=32),
            wav(b"abcd", channels=2),
            wav(b"ab", bits=8),
            wav(b"ab", data_size=3),
            wav(b"ab", rate=0),
            wav(b"ab")[:30],
            b"RIFX" + wav(b"ab")[4:],
        ],
    )
    def test_all_others_are_left_to_it(self, file: bytes) -> None:
        assert riff.plain(file) is None


class TestBombs:
    def test_a_flac_of_hours_is_stopped_at_the_limit(self) -> None:
        file = io.BytesIO()
        soundfile.write(file, np.zeros(3600 * 8000, np.int16), 8000, format="FLAC")
        bomb = file.getvalue()
        tracemalloc.start()
        with pytest.raises(audio.TooLongError, match="longer than 5 s"):
            audio.read_sound(bomb, max_seconds=LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5_000_000

    def test_the_limit_itself_is_allowed(self) -> None:
        assert audio.read_sound(audio.wav(tone(2), 16000), max_seconds=2).seconds == 2.0
        with pytest.raises(audio.TooLongError):
            audio.read_sound(audio.wav(tone(2) + b"\0\0", 16000), max_seconds=2)

    @few
    @given(data=st.data())
    def test_a_damaged_ogg_is_read_or_refused(self, data: st.DataObject) -> None:
        file = bytearray(OGG)
        for _ in range(data.draw(st.integers(1, 20))):
            file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
        with suppress(AudioError):
            audio.read_sound(bytes(file[: data.draw(st.integers(0, len(file)))]), max_seconds=LIMIT)


OGG = audio.ogg_opus(tone(0.5), 16000)
