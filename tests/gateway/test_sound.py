"""Uploaded audio becomes an utterance or one problem that names its field; speech goes out in every format.

Rules: real codecs; what goes out is decoded again by libsndfile.
"""

from __future__ import annotations

import io
import math
import struct
from base64 import b64encode
from contextlib import suppress

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import assert_checkpoints, assert_no_checkpoints

from linguad import audio
from linguad.errors import AudioError
from linguad.gateway.speech.sound import MAX_SPEECH_SECONDS, Clip, Sounds, clip_of, joined_speech, speech_of
from linguad.web.problems import Problem

LIMIT = 5.0


def tone(seconds: float, rate: int = 16000) -> bytes:
    at = np.arange(round(seconds * rate)) / rate
    return (8000 * np.sin(2 * math.pi * 440 * at)).astype("<i2").tobytes()


TONE = tone(1)
PACKETS = audio.encode_plan_a(TONE, 16000)
OGG = audio.ogg_opus(TONE, 16000)


def clip(data: bytes, audio_format: str | None = None, sample_rate: int | None = None) -> Clip:
    return clip_of(data, audio_format, sample_rate, max_seconds=LIMIT)


def problem(data: bytes, audio_format: str | None = None, sample_rate: int | None = None) -> Problem:
    with pytest.raises(Problem) as caught:
        clip(data, audio_format, sample_rate)
    return caught.value


def field_of(found: Problem) -> str:
    assert isinstance(found.details, list)
    (detail,) = found.details
    assert detail["reason"]
    return str(detail["field"])


class TestIn:
    @pytest.mark.parametrize("named", [None, "wav"])
    @pytest.mark.parametrize("rate", [8000, 16000, 44100, 96000])
    def test_a_wav_file_is_told_by_its_bytes(self, named: str | None, rate: int) -> None:
        found = clip(audio.wav(tone(1, rate), rate), named)
        assert (found.audio_format, found.duration_ms, len(found.data)) == ("pcm16", 1000, 32000)

    def test_the_rate_of_a_wav_file_may_be_named(self) -> None:
        assert clip(audio.wav(tone(1, 44100), 44100), "wav", 44100).duration_ms == 1000

    def test_pcm16_is_the_default(self) -> None:
        assert clip(TONE) == clip(TONE, "pcm16", 16000) == Clip(TONE, "pcm16", 1000)
        assert len(clip(tone(1, 48000), None, 48000).data) == 32000
        assert clip(TONE + b"\1", "pcm16") == Clip(TONE, "pcm16", 1000)

    def test_framed_packets_go_on_as_they_are(self) -> None:
        assert clip(PACKETS, "opus") == Clip(PACKETS, "opus", 1000)

    @pytest.mark.parametrize("named", [None, "opus"])
    def test_an_ogg_file_is_decoded(self, named: str | None) -> None:
        found = clip(OGG, named, 48000)
        assert (found.audio_format, found.duration_ms, len(found.data)) == ("pcm16", 1000, 32000)

    @pytest.mark.parametrize("data", [b"", b"\1", audio.wav(b"", 16000)])
    def test_no_sound_is_missing(self, data: bytes) -> None:
        found = problem(data)
        assert (found.status, found.code, field_of(found)) == (400, "missing_audio", "audio")

    @pytest.mark.parametrize(
        ("data", "named"),
        [
            (TONE, "mp3"),
            (TONE, ""),
            (TONE, "PCM16"),
            (b"fLaC" + TONE, None),
            (b"ID3\4" + TONE, None),
            (b"\0\0\0\x20ftypisom" + TONE, None),
            (b"\x1a\x45\xdf\xa3" + TONE, None),
        ],
    )
    def test_other_formats_are_415(self, data: bytes, named: str | None) -> None:
        found = problem(data, named)
        expected = (415, "unsupported_audio_format", "audio_format")
        assert (found.status, found.code, field_of(found)) == expected
        assert "pcm16, wav or opus" in found.message

    @pytest.mark.parametrize(
        ("data", "named", "rate", "field"),
        [
            (audio.wav(TONE, 16000), "pcm16", None, "audio_format"),
            (audio.wav(TONE, 16000), "opus", None, "audio_format"),
            (TONE, "wav", None, "audio_format"),
            (OGG, "wav", None, "audio_format"),
            (audio.wav(TONE, 16000), None, 48000, "sample_rate"),
            (audio.wav(TONE, 16000), "wav", 8000, "sample_rate"),
        ],
    )
    def test_a_field_that_contradicts_the_bytes_is_named(
        self, data: bytes, named: str, rate: int, field: str
    ) -> None:
        found = problem(data, named, rate)
        assert (found.status, found.code, field_of(found)) == (422, "invalid_field", field)

    @pytest.mark.parametrize("rate", [0, -1, 7999, 48001, 10**20])
    @pytest.mark.parametrize("data", [TONE, audio.wav(TONE, 16000), PACKETS])
    def test_a_rate_out_of_range_is_refused(self, data: bytes, rate: int) -> None:
        found = problem(data, None, rate)
        assert (found.status, found.code, field_of(found)) == (422, "invalid_sample_rate", "sample_rate")

    @pytest.mark.parametrize(
        ("data", "named"),
        [
            (tone(LIMIT + 0.01), None),
            (audio.wav(tone(LIMIT + 0.01), 16000), None),
            (audio.encode_plan_a(tone(LIMIT + 0.02), 16000), "opus"),
            (audio.ogg_opus(tone(LIMIT + 0.1), 16000), "opus"),
        ],
        ids=["pcm16", "wav", "packets", "ogg"],
    )
    def test_what_lasts_too_long_is_413(self, data: bytes, named: str | None) -> None:
        found = problem(data, named)
        assert (found.status, found.code, field_of(found)) == (413, "audio_too_long", "audio")
        assert "5 s" in found.message

    def test_the_limit_itself_is_allowed(self) -> None:
        for data, named in ((tone(LIMIT), None), (audio.encode_plan_a(tone(LIMIT), 16000), "opus")):
            assert clip(data, named).duration_ms == 5000

    @pytest.mark.parametrize(
        ("data", "named"),
        [
            (b"RIFF\0\0\0\0WAVEfmt ", None),
            (b"OggS" + bytes(100), None),
            (b"OggS" + bytes(100), "opus"),
            (TONE, "opus"),
            (PACKETS[:-1], "opus"),
        ],
    )
    def test_what_does_not_decode_is_422(self, data: bytes, named: str | None) -> None:
        found = problem(data, named)
        assert (found.status, found.code, field_of(found)) == (422, "invalid_audio", "audio")

    def test_ogg_may_be_sent_as_samples_by_who_says_so(self) -> None:
        assert clip(b"OggS", "pcm16").data == b"OggS"

    def test_a_single_sample_is_an_utterance(self) -> None:
        assert clip(b"\0\0", "pcm16", 32000) == Clip(b"\0\0", "pcm16", 0)

    @settings(max_examples=200)
    @given(
        start=st.sampled_from([b"", b"RIFF\0\0\0\0WAVE", b"OggS", b"OggS\0\2", OGG[:300], PACKETS[:50]]),
        rest=st.binary(max_size=300),
        named=st.none() | st.sampled_from(["pcm16", "wav", "opus"]) | st.text(max_size=5),
        rate=st.none() | st.integers(7000, 50000),
    )
    def test_any_bytes_are_an_utterance_or_a_problem(
        self, start: bytes, rest: bytes, named: str | None, rate: int | None
    ) -> None:
        with suppress(Problem):
            found = clip(start + rest, named, rate)
            assert found.data
            assert 0 <= found.duration_ms <= LIMIT * 1000


def packets(seconds: float) -> tuple[str, str]:
    return b64encode(audio.encode_plan_a(tone(seconds), 16000)).decode(), "opus"


def loudness(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples.astype(float) ** 2)))


class TestOut:
    @pytest.mark.parametrize("node", ["opus", "pcm16"])
    @pytest.mark.parametrize("wanted", ["wav", "ogg_opus"])
    def test_libsndfile_plays_it(self, node: str, wanted: str) -> None:
        text = b64encode(PACKETS if node == "opus" else TONE).decode()
        speech = speech_of(text, node, wanted)
        assert (speech.format, speech.sample_rate) == (wanted, 16000)
        samples, rate = soundfile.read(io.BytesIO(speech.data), dtype="int16")
        assert (len(samples), rate) == (16000, 16000)
        assert loudness(samples) == pytest.approx(loudness(np.frombuffer(TONE, "<i2")), rel=0.1)

    def test_pcm16_is_samples(self) -> None:
        speech = speech_of(b64encode(PACKETS).decode(), "opus", "pcm16")
        assert (speech.data, speech.format) == (audio.decode_plan_a(PACKETS), "pcm16")
        assert speech_of(b64encode(TONE).decode(), "pcm16", "pcm16").data == TONE

    @pytest.mark.parametrize("node", ["opus", "pcm16"])
    def test_packets_are_the_nodes_own(self, node: str) -> None:
        speech = speech_of(b64encode(PACKETS).decode(), node, "packets")
        assert (speech.data, speech.format, speech.sample_rate) == (PACKETS, node, 16000)

    @pytest.mark.parametrize("wanted", ["wav", "pcm16", "ogg_opus", "packets"])
    def test_no_speech_is_no_bytes(self, wanted: str) -> None:
        assert speech_of("", "opus", wanted).data == b""
        assert joined_speech([], wanted).data == b""

    @pytest.mark.parametrize("wanted", ["wav", "ogg_opus"])
    def test_parts_become_one_file(self, wanted: str) -> None:
        parts = [packets(0.5), ("", "opus"), (b64encode(tone(0.25)).decode(), "pcm16"), packets(0.3)]
        info = soundfile.info(io.BytesIO(joined_speech(parts, wanted).data))
        assert info.duration == pytest.approx(1.05, abs=0.001)

    def test_packets_of_one_kind_are_joined_and_others_decoded(self) -> None:
        one = joined_speech([packets(0.5), packets(0.5)], "packets")
        assert (one.format, len(audio.decode_plan_a(one.data))) == ("opus", 32000)
        mixed = joined_speech([packets(0.5), (b64encode(tone(0.5)).decode(), "pcm16")], "packets")
        assert (mixed.format, len(mixed.data)) == ("pcm16", 32000)

    @pytest.mark.parametrize(
        ("text", "node"),
        [
            ("no base64!", "opus"),
            ("AAA", "opus"),
            (b64encode(b"\xff\xff\xff").decode(), "opus"),
            (b64encode(TONE).decode(), "flac"),
            (b64encode(struct.pack("<HB", 1, 0xF8) * (MAX_SPEECH_SECONDS * 50 + 1)).decode(), "opus"),
        ],
        ids=["text", "padding", "garbage", "format", "bomb"],
    )
    def test_what_does_not_decode_is_an_audio_error(self, text: str, node: str) -> None:
        with pytest.raises(AudioError):
            speech_of(text, node, "wav")


SAMPLES = b64encode(TONE).decode(), "pcm16"


@pytest.mark.parametrize(
    ("data", "audio_format", "rate"),
    [
        (TONE, None, None),
        (audio.wav(TONE, 16000), None, None),
        (PACKETS, "opus", None),
        (TONE, "flac", None),
        (b"", None, None),
    ],
)
async def test_small_sound_that_is_only_copied_needs_no_thread(
    data: bytes, audio_format: str | None, rate: int | None
) -> None:
    with assert_no_checkpoints(), suppress(Problem):
        await Sounds().clip(data, audio_format, rate, max_seconds=LIMIT)


@pytest.mark.parametrize(
    ("data", "audio_format", "rate"),
    [
        (TONE, "pcm16", 8000),
        (audio.wav(TONE, 44100), None, None),
        (OGG, None, None),
        (TONE * 9, None, None),
    ],
)
async def test_all_other_work_is_done_in_threads(
    data: bytes, audio_format: str | None, rate: int | None
) -> None:
    with assert_checkpoints(), suppress(Problem):
        await Sounds().clip(data, audio_format, rate, max_seconds=LIMIT)


async def test_speech_is_given_to_threads_if_it_is_coded_anew() -> None:
    sounds = Sounds()
    for parts, name in (([SAMPLES], "wav"), ([SAMPLES] * 2, "pcm16"), ([packets(1)], "packets"), ([], "wav")):
        with assert_no_checkpoints():
            assert await sounds.speech(parts, name) == joined_speech(parts, name)
    for parts, name in (([packets(1)], "wav"), ([SAMPLES], "ogg_opus"), ([SAMPLES] * 9, "wav")):
        with assert_checkpoints():
            await sounds.speech(parts, name)
    with pytest.raises(Problem):
        await sounds.clip(b"", None, None, max_seconds=LIMIT)
