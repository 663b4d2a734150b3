"""Audio in and out: sizes are exact, sound survives, and no bytes whatever end in anything but an AudioError.

Rules: real codecs and real files; what is heard is compared by its energy, not sample by sample.
"""

from __future__ import annotations

import io
import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from linguad import audio
from linguad.errors import AudioError
from linguad.wire import opus

SPEECH = Path(__file__).parent.parent / "demo/audio/weather.wav"

few = settings(max_examples=60)
"""Each example runs a codec, which has no business with hypothesis's clock."""


@pytest.fixture(scope="module")
def speech() -> bytes:
    """Some seconds of a spoken sentence, PCM16 at 16 kHz."""
    return audio.read_audio_file(SPEECH)[0]


def tone(seconds: float, rate: int = audio.WIRE_RATE, hertz: float = 440.0) -> bytes:
    at = np.arange(round(seconds * rate)) / rate
    return (8000 * np.sin(2 * math.pi * hertz * at)).astype("<i2").tobytes()


def samples(pcm: bytes) -> NDArray[np.float64]:
    return np.frombuffer(pcm, "<i2").astype(float)


def loudness(pcm: bytes) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(samples(pcm) ** 2)))


class TestOpus:
    @few
    @given(count=st.integers(0, 4000), rate=st.sampled_from([8000, 16000, 22050, 44100, 48000]))
    def test_there_are_as_many_packets_as_the_sound_has_20_ms(self, count: int, rate: int) -> None:
        pcm = tone(count / rate, rate)
        payload = audio.encode_plan_a(pcm, rate)
        at_16_khz = len(audio.resample(pcm, rate, audio.WIRE_RATE)) // 2
        walked = opus.walk(payload)
        assert walked == (math.ceil(at_16_khz / 320), len(payload))
        assert len(audio.decode_plan_a(payload)) == 640 * walked.packets

    def test_speech_comes_back(self, speech: bytes) -> None:
        payload = audio.encode_plan_a(speech, audio.WIRE_RATE)
        heard = audio.decode_plan_a(payload)
        assert len(payload) < len(speech) / 8
        assert loudness(heard) == pytest.approx(loudness(speech), rel=0.1)
        before, after = samples(speech), samples(heard)[: len(speech) // 2]
        # The codec delays by some ms and keeps what is heard, not every sample.
        likeness = max(np.corrcoef(before[: len(before) - lag], after[lag:])[0, 1] for lag in range(200))
        assert likeness > 0.75

    def test_concatenated_payloads_are_one(self, speech: bytes) -> None:
        first, second = audio.encode_plan_a(speech[:6400], 16000), audio.encode_plan_a(speech[6400:], 16000)
        both = audio.decode_plan_a(first + second)
        assert len(both) == len(audio.decode_plan_a(first)) + len(audio.decode_plan_a(second))

    def test_nothing_is_nothing(self) -> None:
        assert audio.encode_plan_a(b"", 16000) == b""
        assert audio.decode_plan_a(b"") == b""

    def test_a_packet_of_60_ms_counts_as_20(self, speech: bytes) -> None:
        long = opus.join(packets_of(speech, frame_ms=60))
        assert len(audio.decode_plan_a(long)) == 640 * opus.walk(long).packets

    def test_stereo_packets_are_mixed(self, speech: bytes) -> None:
        stereo = opus.join(packets_of(speech, layout="stereo"))
        assert loudness(audio.decode_plan_a(stereo)) == pytest.approx(loudness(speech), rel=0.15)

    def test_what_stands_behind_a_malformed_record_is_left_out(self, speech: bytes) -> None:
        payload = audio.encode_plan_a(speech, 16000)
        assert audio.decode_plan_a(payload + b"\0\0" + payload) == audio.decode_plan_a(payload)
        assert len(audio.decode_plan_a(payload[:-1])) == 640 * (opus.walk(payload).packets - 1)

    def test_a_packet_that_does_not_decode_is_left_out(self, speech: bytes) -> None:
        packets = list(opus.packets(audio.encode_plan_a(speech, 16000)))
        # Code 3 with a frame count of zero is no Opus packet (RFC 6716 3.2.5).
        packets.insert(5, b"\xff\x00")
        assert len(audio.decode_plan_a(opus.join(packets))) == 640 * (len(packets) - 1)

    @pytest.mark.parametrize("payload", [b"\x01", b"\x00\x00", b"RIFF....WAVE", b"\x02\x00\xff\x00"])
    def test_what_holds_no_packet_is_an_error(self, payload: bytes) -> None:
        with pytest.raises(AudioError, match="not a run of Opus packets"):
            audio.decode_plan_a(payload)

    def test_hours_in_a_few_bytes_are_refused(self) -> None:
        with pytest.raises(AudioError, match="longer than 30 minutes"):
            audio.decode_plan_a(b"\x01\x00\xf8" * 100_000)

    @few
    @given(payload=st.binary(max_size=2000))
    def test_any_bytes_decode_or_are_refused(self, payload: bytes) -> None:
        decodes_or_is_refused(payload)

    @few
    @given(packets=st.lists(st.binary(min_size=1, max_size=300), max_size=12))
    def test_any_packets_decode_or_are_refused(self, packets: list[bytes]) -> None:
        decodes_or_is_refused(opus.join(packets))

    @few
    @given(data=st.data())
    def test_a_damaged_payload_decodes_or_is_refused(self, speech: bytes, data: st.DataObject) -> None:
        payload = bytearray(audio.encode_plan_a(speech[:12800], 16000))
        for _ in range(data.draw(st.integers(1, 20))):
            payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
        decodes_or_is_refused(bytes(payload))

    def test_threads_do_not_disturb_each_other(self, speech: bytes) -> None:
        payload = audio.encode_plan_a(speech, 16000)
        alone = audio.decode_plan_a(payload)
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(audio.decode_plan_a, [payload] * 24)) == {alone}


def decodes_or_is_refused(payload: bytes) -> None:
    try:
        pcm = audio.decode_plan_a(payload)
    except AudioError:
        return
    assert len(pcm) % 640 == 0
    assert len(pcm) <= 640 * opus.walk(payload).packets


def packets_of(pcm: bytes, frame_ms: int = 20, layout: str = "mono") -> list[bytes]:
    """Opus packets as some other program might make them."""
    channels = 2 if layout == "stereo" else 1
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 16000, layout, "s16"
    encoder.time_base = Fraction(1, 16000)
    encoder.bit_rate = 64_000
    encoder.options = {"frame_duration": str(frame_ms)}
    size = 16 * frame_ms
    found: list[bytes] = []
    for start in range(0, len(pcm) // 2 - size, size):
        part = np.frombuffer(pcm, "<i2")[start : start + size].repeat(channels).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(part, format="s16", layout=layout)
        frame.sample_rate, frame.pts = 16000, start
        found += map(bytes, encoder.encode(frame))
    return found


class TestResample:
    @few
    @given(
        count=st.integers(0, 5000),
        rates=st.tuples(*[st.sampled_from([4000, 8000, 11025, 16000, 22050, 44100, 48000, 192000])] * 2),
    )
    def test_the_duration_stays(self, count: int, rates: tuple[int, int]) -> None:
        before, after = rates
        assert abs(len(audio.resample(bytes(2 * count), before, after)) / 2 - count * after / before) <= 1

    @pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000, 192000])
    def test_there_and_back_is_the_same_speech(self, speech: bytes, rate: int) -> None:
        back = audio.resample(audio.resample(speech, 16000, rate), rate, 16000)
        assert len(back) == len(speech)
        assert np.sqrt(np.mean((samples(back) - samples(speech)) ** 2)) < 0.01 * loudness(speech)

    def test_what_a_lower_rate_cannot_hold_is_filtered_out(self) -> None:
        assert loudness(audio.resample(tone(1, 48000, hertz=15000), 48000, 16000)) < 50

    def test_an_odd_last_byte_is_ignored(self) -> None:
        assert audio.resample(b"\1\2\3", 16000, 16000) == b"\1\2"
        assert len(audio.resample(bytes(1601), 8000, 16000)) == 3200

    @pytest.mark.parametrize("rate", [-1, 0, 3999, 192001, 10**12])
    def test_a_rate_of_no_sound_card_is_refused(self, rate: int) -> None:
        for pair in ((rate, 16000), (16000, rate)):
            with pytest.raises(AudioError, match=f"{rate} Hz is not supported"):
                audio.resample(bytes(100), *pair)


class TestWire:
    def test_every_format_becomes_pcm16_at_16_khz(self, speech: bytes) -> None:
        assert audio.to_pcm16(speech, "pcm16", 16000) == speech
        assert len(audio.to_pcm16(tone(1, 48000), "pcm16", 48000)) == 32000
        payload = audio.encode_plan_a(speech, 16000)
        assert audio.to_pcm16(payload, "opus", 0) == audio.decode_plan_a(payload)

    def test_other_formats_are_refused_by_name(self) -> None:
        for refused in (
            lambda: audio.to_pcm16(b"", "wav", 16000),
            lambda: audio.duration_ms(b"", "wav", 16000),
        ):
            with pytest.raises(AudioError, match="Unsupported audio format: wav"):
                refused()

    def test_duration(self, speech: bytes) -> None:
        payload = audio.encode_plan_a(speech[:64000], 16000)
        assert audio.duration_ms(payload, "opus", 16000) == 2000
        assert audio.duration_ms(speech[:64000], "pcm16", 16000) == 2000
        assert audio.duration_ms(bytes(44100), "pcm16", 44100) == 500
        with pytest.raises(AudioError, match="0 Hz"):
            audio.duration_ms(b"", "pcm16", 0)


class TestFiles:
    @pytest.mark.parametrize(
        ("suffix", "rate", "channels", "subtype"),
        [
            ("wav", 8000, 1, "ULAW"),
            ("wav", 44100, 2, "PCM_24"),
            ("wav", 48000, 6, "FLOAT"),
            ("flac", 22050, 1, "PCM_16"),
            ("ogg", 48000, 2, "VORBIS"),
            ("mp3", 44100, 1, "MPEG_LAYER_III"),
        ],
    )
    def test_what_libsndfile_reads_is_read(
        self, tmp_path: Path, suffix: str, rate: int, channels: int, subtype: str
    ) -> None:
        path = tmp_path / f"sound.{suffix}"
        sound = (samples(tone(1.5, rate)) / 32768).reshape(-1, 1).repeat(channels, axis=1)
        soundfile.write(path, sound, rate, subtype=subtype)
        pcm, seconds = audio.read_audio_file(path)
        assert seconds == pytest.approx(1.5, abs=0.1)
        assert len(pcm) / 32000 == pytest.approx(seconds, abs=0.001)
        assert loudness(pcm) == pytest.approx(8000 / math.sqrt(2), rel=0.1)

    def test_an_open_file_is_read_like_a_path(self) -> None:
        with SPEECH.open("rb") as file:
            assert audio.read_audio_file(file) == audio.read_audio_file(SPEECH)
        assert audio.read_audio_file(io.BytesIO(SPEECH.read_bytes())) == audio.read_audio_file(str(SPEECH))

    def test_what_was_written_is_read_back(self, tmp_path: Path, speech: bytes) -> None:
        audio.write_wav(tmp_path / "out.wav", speech + b"\1", 16000)
        assert audio.read_audio_file(tmp_path / "out.wav") == (speech, len(speech) / 32000)

    def test_values_that_are_no_numbers_are_silence(self, tmp_path: Path) -> None:
        broken = np.full(16000, np.nan, np.float32)
        broken[8000:] = np.inf
        soundfile.write(tmp_path / "nan.wav", broken, 16000, subtype="FLOAT")
        assert audio.read_audio_file(tmp_path / "nan.wav")[1] == 1.0

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            (b"", "is not a sound file"),
            (b"this is a letter, not a sound", "is not a sound file"),
            (b"RIFF\x24\x00\x00\x00WAVEfmt ", "is not a sound file"),
            (b"\xff" * 1000, "is not a sound file"),
            (SPEECH.read_bytes()[:44], "holds no sound"),
        ],
    )
    def test_other_files_get_one_sentence(self, tmp_path: Path, content: bytes, sentence: str) -> None:
        path = tmp_path / "letter.wav"
        path.write_bytes(content)
        with pytest.raises(AudioError, match=rf"^letter\.wav {sentence}[^\n]*$"):
            audio.read_audio_file(path)

    def test_a_file_that_cannot_be_opened_gets_one_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(AudioError, match=r"^none\.wav cannot be read: no such file or directory$"):
            audio.read_audio_file(tmp_path / "none.wav")
        with pytest.raises(AudioError, match="cannot be read: is a directory"):
            audio.read_audio_file(tmp_path)

    @few
    @given(data=st.data())
    def test_a_damaged_file_is_read_or_refused(self, data: st.DataObject) -> None:
        content = bytearray(SPEECH.read_bytes()[:4000])
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(st.integers(0, 60))] = data.draw(st.integers(0, 255))
        with suppress(AudioError):
            audio.read_audio_file(io.BytesIO(bytes(content)))
