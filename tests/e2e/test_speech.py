"""The main job: a spoken sentence goes in, a translated spoken sentence comes out.

Real daemon, real `linguad node` with PocketSphinx, Apertium and eSpeak NG, real `linguad translate`.
"""

from __future__ import annotations

import io
import json
import signal
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from processes import DaemonProcess, Process, clean_environment, command, linguad

SOUNDS = Path(__file__).parents[2] / "demo" / "audio"

SPANISH = {
    "weather": "El tiempo es bueno y el sol está brillando",
    "house": "Queremos ir a la casa de mi padre",
    "plan": "Necesitamos un plan nuevo para el año que viene",
}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DaemonProcess, Process]]:
    """A daemon and a node with all engines of this machine; both must end in order."""
    directory = tmp_path_factory.mktemp("network")
    daemon = DaemonProcess(directory)
    started = daemon.wait_for("started")
    url = f"ws://127.0.0.1:{started['port']}/ws/node"
    node = Process(command("node", "--server", url), clean_environment(), directory)
    try:
        assert "en>es" in node.wait_for("node_started")["pairs"]
        daemon.wait_for("node_registered")
        yield daemon, node
        node.signal(signal.SIGTERM)
        assert (node.wait(), node.complaints) == (0, [])
        daemon.stop()
    finally:
        node.clear_away()
        daemon.clear_away()


def translate(daemon: DaemonProcess, sound: Path, *options: str | Path) -> tuple[int, Any, str]:
    """Exit code, report and complaints of `linguad translate`."""
    url = f"ws://127.0.0.1:{daemon.wait_for('started')['port']}/ws/session"
    done = linguad("translate", sound, "--from", "en", "--to", "es", "--server", url, "--json", *options)
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("name", SPANISH)
def test_sentence(name: str, network: tuple[DaemonProcess, Process], tmp_path: Path) -> None:
    daemon, _ = network
    spoken = tmp_path / "spoken.wav"
    code, report, complaints = translate(daemon, SOUNDS / f"{name}.wav", "--out", spoken)
    assert (code, report["error"], complaints) == (0, None, "")
    assert report["text_asr"] == (SOUNDS / f"{name}.txt").read_text().strip()
    assert report["text_translated"] == SPANISH[name]
    assert [utterance["index"] for utterance in report["utterances"]] == [0]
    assert report["utterances"][0]["time_breakdown"]["attempts"] == 1
    samples, rate = soundfile.read(spoken)
    assert (rate, samples.ndim) == (16000, 1)
    seconds = len(samples) / rate
    assert seconds == pytest.approx(report["speech_seconds"], abs=0.001)
    words = len(SPANISH[name].split())
    assert 0.15 * words < seconds < 0.6 * words
    assert np.sqrt(np.mean(samples**2)) > 0.02, "this is silence"


def test_two_sentences_with_a_pause_are_heard_as_one_text(
    network: tuple[DaemonProcess, Process], tmp_path: Path
) -> None:
    """13 s of sound: cut by its length into slices of one turn."""
    daemon, _ = network
    parts = [soundfile.read(SOUNDS / f"{name}.wav")[0] for name in SPANISH]
    rest = np.zeros(16000 * 2)
    soundfile.write(tmp_path / "long.wav", np.concatenate([parts[0], rest, parts[1], rest, parts[2]]), 16000)
    code, report, complaints = translate(daemon, tmp_path / "long.wav")
    assert (code, report["error"], complaints) == (0, None, "")
    assert [utterance["index"] for utterance in report["utterances"]] == [0, 1]
    assert "weather" in report["text_asr"]
    assert "next year" in report["text_asr"]
    assert report["speech_seconds"] > 3


def test_silence_is_no_error(network: tuple[DaemonProcess, Process], tmp_path: Path) -> None:
    daemon, _ = network
    soundfile.write(tmp_path / "silence.wav", np.zeros(16000 * 2), 16000)
    _, report, _ = translate(daemon, tmp_path / "silence.wav")
    assert report["text_asr"] == report["text_translated"] == ""
    assert report["missing"] == [{"index": 0, "reason": "silence_detected"}]


@pytest.mark.parametrize("output_format", ["wav", "ogg_opus", "pcm16"])
async def test_the_public_api_answers_with_speech_that_plays(
    network: tuple[DaemonProcess, Process], output_format: str
) -> None:
    api = await network[0].gateway()
    sound = (SOUNDS / "weather.wav").read_bytes()
    reply = await api.translate(sound, src_lang="en", tgt_lang="es", output_format=output_format)
    assert reply.status == 200, reply
    answer = reply.json
    assert (answer["text"], answer["tts_format"]) == (SPANISH["weather"], output_format)
    assert answer["service_timings"]["total_ms"] > 0
    raw = {"samplerate": 16000, "channels": 1, "subtype": "PCM_16", "format": "RAW"}
    speech = io.BytesIO(b64decode(answer["audio_tts"]))
    samples, rate = soundfile.read(speech, **(raw if output_format == "pcm16" else {}))
    assert 1 < len(samples) / rate < 6
    assert np.sqrt(np.mean(samples**2)) > 0.02, "this is silence"


async def test_a_long_recording_through_the_public_api(network: tuple[DaemonProcess, Process]) -> None:
    """25 s in one file: cut, translated in parts, joined."""
    api = await network[0].gateway()
    parts = [soundfile.read(SOUNDS / f"{name}.wav")[0] for name in SPANISH]
    rest = np.zeros(16000 * 2)
    sound = io.BytesIO()
    soundfile.write(
        sound, np.concatenate([piece for part in parts * 2 for piece in (part, rest)]), 16000, format="WAV"
    )
    reply = await api.translate(sound.getvalue(), src_lang="en", tgt_lang="es")
    assert reply.status == 200, reply
    answer = reply.json
    assert answer["usage"]["audio_ms"] > 20_000
    assert len(answer["text"].split()) > 25
    assert answer["text_asr"].count("weather") == 2


async def test_silence_through_the_public_api(network: tuple[DaemonProcess, Process]) -> None:
    api = await network[0].gateway()
    reply = await api.translate(bytes(64_000), src_lang="en", tgt_lang="es")
    assert reply.status == 200, reply
    answer = reply.json
    assert (answer["text"], answer["audio_tts"], answer["no_speech"]) == ("", "", True)
    assert answer["usage"]["billed_seconds"] == 0


def test_no_word_of_it_is_logged(network: tuple[DaemonProcess, Process]) -> None:
    """Runs after the sentences of this file."""
    for process in network:
        text = "\n".join(process.lines + process.complaints).lower()
        assert "job-" in text
        assert not [word for word in ("weather", "father", "tiempo", "casa") if word in text]
