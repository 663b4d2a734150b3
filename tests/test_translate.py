"""`linguad translate` as a user sees it, against a scheduler that follows the protocol."""

from __future__ import annotations

import argparse
import json
import wave
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio
from patience import PATIENCE_S
from scheduler_peer import SESSION, TRACE, Scheduler, always, event, listening, result

from linguad import audio
from linguad.commands import conversation, translate
from linguad.wire.session import AudioChunk, ErrorMessage, MissingResult, ServerMessage

DEMO = Path(__file__).parent.parent / "demo" / "audio"
SPEECH = audio.encode_plan_a(bytes(2 * 8000), 16000)


@pytest.fixture(autouse=True)
async def _deadline() -> AsyncGenerator[None]:
    with trio.fail_after(PATIENCE_S):
        yield


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "SETTLE_S", 0.05)
    monkeypatch.setattr(conversation, "QUIET_S", 20.0)


@dataclass
class Ran:
    """What a run left: exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> dict:
        """The one JSON object on standard output."""
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable:
    """Run the command in a thread of its own, as it brings its own event loop."""

    async def run(url: str, *arguments: str | Path) -> Ran:
        parser = argparse.ArgumentParser()
        translate.add_arguments(parser)
        args = parser.parse_args([*map(str, arguments), "--from", "en", "--to", "es", "--server", url])
        code = await trio.to_thread.run_sync(partial(translate.run, args), abandon_on_cancel=True)
        return Ran(code, *capsys.readouterr())

    return run


def silence(path: Path, seconds: float) -> Path:
    """A WAV file at 44.1 kHz, stereo."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44100)
        file.writeframes(array("h", [0, 0] * round(seconds * 44100)).tobytes())
    return path


def missing(index: int, reason: str) -> MissingResult:
    """A `missing_result`."""
    return MissingResult(
        session_id=SESSION, utterance_index=index, reason=reason, created_at_ms=1, trace_id=TRACE
    )


HELLO = always(
    lambda index: event(index, "DISPATCHED"),
    lambda index: result(index, f"hello {index}", f"hola {index}", SPEECH),
)


async def test_a_person_gets_texts_speech_and_times(run: Callable, tmp_path: Path) -> None:
    out = tmp_path / "es.wav"
    scheduler = Scheduler(HELLO)
    async with listening(scheduler) as url:
        ran = await run(url, DEMO / "weather.wav", "--out", out)
    assert (ran.code, ran.err) == (0, "")
    assert "hello 0" in ran.out
    assert "hola 0" in ran.out
    assert f"{out} (0.5 s)" in ran.out
    assert SESSION in ran.out, "which linguad trace can be given"
    for word in ("cut", "queue", "send", "node", "reorder", "total", "742"):
        assert word in ran.out
    with wave.open(str(out)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (16000, 1, 8000)
    heard = audio.decode_plan_a(scheduler.utterances[0])
    assert abs(len(heard) / 2 / 16000 - 2.74) < 0.1


async def test_a_script_gets_one_json_object(run: Callable, tmp_path: Path) -> None:
    async with listening(Scheduler(HELLO)) as url:
        ran = await run(url, DEMO / "plan.wav", "--json", "--out", tmp_path / "es.wav")
    assert (ran.code, ran.err, ran.out.count("\n")) == (0, "", 1)
    report = ran.report
    assert (report["text_asr"], report["text_translated"], report["error"]) == ("hello 0", "hola 0", None)
    assert (report["src"], report["tgt"], report["seconds"]) == ("en", "es", 2.35)
    assert (report["speech_seconds"], report["out"]) == (0.5, str(tmp_path / "es.wav"))
    assert report["session_id"] == SESSION
    (utterance,) = report["utterances"]
    assert utterance["index"] == 0
    assert utterance["time_breakdown"]["total_ms"] == 742.1


async def test_a_long_file_waits_for_all_its_utterances_and_joins_them_in_order(
    run: Callable, tmp_path: Path
) -> None:
    """The last two are answered long after the first, the speech in two formats, one announced by nothing."""

    async def answer(index: int) -> AsyncIterator[ServerMessage]:
        if index == 0:
            yield event(0, "DISPATCHED")
            yield result(0, "one", "uno", SPEECH)
        if index == 2:
            yield missing(1, "gap_timeout")
            yield result(2, "three", "tres", b"\x02\x01" * 1600, "pcm16")
            await trio.sleep(0.2)
            yield msgspec.structs.replace(result(1, "two", "dos", b"\x01\x01" * 3200, "pcm16"), late=True)

    out = tmp_path / "es.wav"
    async with listening(Scheduler(answer)) as url:
        ran = await run(url, silence(tmp_path / "long.wav", 24), "--json", "--out", out)
    assert (ran.code, ran.err) == (0, "")
    assert ran.report["text_translated"] == "uno dos tres"
    assert [utterance["late"] for utterance in ran.report["utterances"]] == [False, True, False]
    with wave.open(str(out)) as file:
        assert file.getnframes() == 8000 + 3200 + 1600
        file.setpos(8000)
        assert file.readframes(4800) == b"\x01\x01" * 3200 + b"\x02\x01" * 1600


async def test_an_utterance_that_waits_unannounced_is_waited_for(run: Callable, tmp_path: Path) -> None:
    async def answer(index: int) -> AsyncIterator[ServerMessage]:
        if index == 1:
            yield result(0, "one", "uno", SPEECH)
            await trio.sleep(3 * conversation.SETTLE_S)
            yield result(1, "two", "dos", SPEECH)

    async with listening(Scheduler(answer)) as url:
        ran = await run(url, silence(tmp_path / "long.wav", 15), "--json")
    assert ran.report["text_translated"] == "uno dos"


async def test_a_dropped_rest_is_not_waited_for_long(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server cut twice; nobody ever hears of a third part, and the translation is complete without it."""
    monkeypatch.setattr(conversation, "QUIET_S", 1.0)

    async def answer(index: int) -> AsyncIterator[ServerMessage]:
        if index < 2:
            yield result(index, f"part {index}", f"parte {index}", SPEECH)

    async with listening(Scheduler(answer)) as url:
        ran = await run(url, silence(tmp_path / "long.wav", 21), "--json")
    assert (ran.code, ran.report["text_translated"]) == (0, "parte 0 parte 1")


async def test_a_server_that_cuts_more_often_is_fine(run: Callable, tmp_path: Path) -> None:
    async with listening(Scheduler(HELLO, max_packets=50)) as url:
        ran = await run(url, silence(tmp_path / "long.wav", 3), "--json")
    assert ran.report["text_translated"] == "hola 0 hola 1 hola 2 hola 3"


async def test_merged_and_silent_parts_lose_nothing(run: Callable, tmp_path: Path) -> None:
    async def answer(index: int) -> AsyncIterator[ServerMessage]:
        yield (
            result(2, "all", "todo", SPEECH)
            if index == 2
            else missing(index, ("merged", "silence_detected")[index])
        )

    async with listening(Scheduler(answer)) as url:
        ran = await run(url, silence(tmp_path / "long.wav", 24), "--json")
    assert (ran.code, ran.report["text_translated"]) == (0, "todo")
    assert [part["reason"] for part in ran.report["missing"]] == ["merged", "silence_detected"]


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("silence_detected", "no speech was heard in weather.wav"),
        (
            "no_available_node",
            "no node translates en to es right now; start one with: linguad node --server ws://",
        ),
        ("node_overloaded", "all nodes are busy"),
        ("job_failed", "the node could not process the speech"),
        ("of_tomorrow", "the server gave it up (of_tomorrow)"),
    ],
)
async def test_no_result_is_one_sentence(run: Callable, reason: str, sentence: str) -> None:
    async with listening(Scheduler(always(lambda index: missing(index, reason)))) as url:
        ran = await run(url, DEMO / "weather.wav")
    assert ran.code == 1
    assert ran.err.startswith(f"linguad translate: {sentence}")
    assert ran.out.split() == ["session", SESSION]
    assert ran.err.count("\n") == 1
    assert "Traceback" not in ran.err


async def test_failures_are_json_too(run: Callable) -> None:
    async with listening(Scheduler(always(lambda index: missing(index, "silence_detected")))) as url:
        ran = await run(url, DEMO / "weather.wav", "--json")
    assert (ran.code, ran.report["error"]) == (1, "no speech was heard in weather.wav")
    ran = await run(url, DEMO / "README.md", "--json")
    assert (ran.code, list(ran.report)) == (1, ["file", "error"])


async def test_what_came_is_shown_when_a_part_is_lost(run: Callable, tmp_path: Path) -> None:
    async def answer(index: int) -> AsyncIterator[ServerMessage]:
        yield missing(1, "node_lost") if index else result(0, "one", "uno", SPEECH)

    out = tmp_path / "es.wav"
    async with listening(Scheduler(answer)) as url:
        ran = await run(url, silence(tmp_path / "long.wav", 15), "--out", out)
    assert ran.code == 1
    assert "uno" in ran.out
    assert "utterance 1: the node went away" in ran.err
    assert out.exists()


async def test_text_without_speech_is_told_when_speech_was_asked_for(run: Callable, tmp_path: Path) -> None:
    out = tmp_path / "es.wav"
    async with listening(Scheduler(always(lambda index: result(index, "one", "uno", b"")))) as url:
        assert (await run(url, DEMO / "plan.wav")).code == 0
        ran = await run(url, DEMO / "plan.wav", "--out", out)
    assert (ran.code, out.exists()) == (1, False)
    assert "no speech" in ran.err


@pytest.mark.parametrize("audio_format", ["opus", "mp3"])
async def test_speech_that_cannot_be_decoded(run: Callable, audio_format: str) -> None:
    broken = always(lambda index: result(index, "one", "uno", b"\xff\xff\xff", audio_format))
    async with listening(Scheduler(broken)) as url:
        ran = await run(url, DEMO / "plan.wav")
    assert ran.code == 1
    assert "the speech that came back cannot be decoded" in ran.err


async def test_the_server_s_own_complaint_is_passed_on(run: Callable) -> None:
    complaint = ErrorMessage(code="NODE_UNAVAILABLE", message="That node is away.")
    async with listening(Scheduler(always(lambda index: complaint))) as url:
        ran = await run(url, DEMO / "plan.wav")
    assert ran.code == 1
    assert "That node is away. (NODE_UNAVAILABLE)" in ran.err


@pytest.mark.parametrize(
    ("announced", "sentence"),
    [(True, "for utterance 0; allow more with --timeout"), (False, "is a node connected?")],
)
async def test_no_answer_ends_at_the_timeout(run: Callable, announced: bool, sentence: str) -> None:
    answer = always(lambda index: event(index, "DISPATCHED")) if announced else always()
    async with listening(Scheduler(answer)) as url:
        ran = await run(url, DEMO / "plan.wav", "--timeout", "1.5")
    assert ran.code == 1
    assert "no answer within 1.5 s" in ran.err
    assert sentence in ran.err


async def test_nothing_listens(run: Callable) -> None:
    ran = await run("ws://127.0.0.1:1/ws/session", DEMO / "plan.wav")
    assert ran.code == 1
    assert "ws://127.0.0.1:1/ws/session" in ran.err
    assert "linguad serve" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("name", ["README.md", "absent.wav"])
async def test_no_sound_file(run: Callable, name: str) -> None:
    ran = await run("ws://127.0.0.1:1/ws/session", DEMO / name)
    assert ran.code == 1
    assert name in ran.err
    assert ran.err.count("\n") == 1


async def test_real_time_takes_as_long_as_the_speech(run: Callable, tmp_path: Path) -> None:
    file = silence(tmp_path / "short.wav", 1)
    async with listening(Scheduler(HELLO)) as url:
        ran = await run(url, file, "--json", "--realtime")
    assert ran.report["elapsed_ms"] > 950


async def test_a_flood_is_slowed_to_the_pace_of_speech(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "MAX_AHEAD_S", 1.0)
    scheduler = Scheduler(HELLO)
    async with listening(scheduler) as url:
        ran = await run(url, silence(tmp_path / "short.wav", 2), "--json")
    assert ran.report["elapsed_ms"] > 950
    assert len(scheduler.of(AudioChunk)) == 9


async def test_what_had_no_answer_is_counted_anew_in_the_next_session() -> None:
    answers = conversation.Answers()
    for said in (event(0, "DISPATCHED"), event(1, "DISPATCHED"), result(0, "one", "uno", b"")):
        answers.take(said)
    answers.take(missing(1, "cancelled"))
    assert answers.open == [1]
    answers.begin_anew()
    assert answers.complete
    answers.take(event(0, "DISPATCHED"))
    assert answers.open == [1]
    answers.take(result(0, "two", "dos", b""))
    assert [result.text_translated for result in answers.in_order] == ["uno", "dos"]
    assert answers.complete


@pytest.mark.parametrize("name", ["INPUT_STARTED", "LANGUAGES_AVAILABLE", "ERROR"])
async def test_events_of_no_utterance_announce_none(name: str) -> None:
    answers = conversation.Answers()
    assert not answers.take(msgspec.structs.replace(event(3, name), job_id=""))
    assert answers.open == []
    assert answers.take(msgspec.structs.replace(event(3, "INPUT_ENDED"), job_id=""))
    assert answers.open == [3]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.wav"],
        ["a.wav", "--from", "English", "--to", "es"],
        ["a.wav", "--from", "en", "--to", "es", "--server", "http://127.0.0.1"],
        ["a.wav", "--from", "en", "--to", "es", "--timeout", "0"],
        ["a.wav", "--from", "en", "--to", "es", "--timeout", "nan"],
        ["a.wav", "--from", "en", "--to", "es", "--out", "no/such/directory/a.wav"],
    ],
)
async def test_wrong_arguments_are_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    translate.add_arguments(parser)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err
