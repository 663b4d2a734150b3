"""Simulated nodes: what a profile may say, who is made of it, how long they work, and how they fail."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import trio
from documents import example
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from linguad.cli import main
from linguad.errors import ConfigError, ErrorCode
from linguad.wire import opus
from linguad.wire.common import PipelineConfig
from linguad.wire.node import JobAssign
from linguad.worker.profile import USUAL, Nodes, Profile, read
from linguad.worker.runner import JobFailed, pairs_served
from linguad.worker.simulated import SILENCE_SECONDS, Simulated

WHOLE = """
seed = 7
[[nodes]]
name = "big"
share = 3
languages = ["en", "ES", "zh"]
gpus = ["one", "two"]
slots = 8
speed = 12
speed_spread = 0
[[nodes]]
name = "small"
pairs = ["en>es", "es>en"]
failing = 0.1
empty = 0.2
silent = 0.7
lost_after_s = 60
"""


def written(directory: Path, text: str) -> Path:
    path = directory / "fleet.toml"
    path.write_text(text)
    return path


def job(seconds: float = 2.0, **members: object) -> JobAssign:
    audio = b64encode(opus.join([b"abc"] * round(seconds * 50))).decode()
    given: dict[str, object] = {"audio": audio, "audio_format": "opus", "pipeline": PipelineConfig()}
    ids = {"job_id": "job-1", "attempt_id": 1, "session_id": "s-1", "utterance_index": 0, "trace_id": "t-1"}
    return JobAssign(**ids, src_lang="en", tgt_lang="es", sample_rate=16000, **given | members)  # type: ignore[arg-type]


def test_a_profile_is_read(tmp_path: Path) -> None:
    profile = read(written(tmp_path, WHOLE))
    big, small = profile.nodes
    assert big.served() == [
        ("en", "es"),
        ("en", "zh"),
        ("es", "en"),
        ("es", "zh"),
        ("zh", "en"),
        ("zh", "es"),
    ]
    assert small.served() == [("en", "es"), ("es", "en")]
    fleet = list(profile.fleet(9))
    assert Counter(kind.name for kind, _, _ in fleet) == {"big": 7, "small": 2}
    assert {speed for kind, _, speed in fleet if kind is big} == {12}
    assert len({speed for kind, _, speed in fleet if kind is small}) == 2
    assert fleet == list(profile.fleet(9)), "the same seed, the same nodes"
    offer = Simulated(big, 12, Random(1), Counter()).offer()
    assert len(pairs_served(offer)) == 6
    assert {service.device for service in offer.services} == {"gpu"}
    assert {service.device for service in Simulated(small, 4, Random(1), Counter()).offer().services} == {
        "cpu"
    }


def test_the_profile_of_the_documents_can_be_used(tmp_path: Path) -> None:
    profile = written(tmp_path, example("docs/testing.md", "toml"))
    assert [kind.name for kind in read(profile).nodes] == ["rtx", "flaky"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "nodes"),
        ("[[nodes]]\nlanguages = ['en', 'es']", "name"),
        ("[[nodes]]\nname = 'a b'\nlanguages = ['en', 'es']", "$.nodes[0].name"),
        ("[[nodes]]\nname = 'a'\nlanguages = ['en', 'es']\nfail = 1", "fail"),
        ("[[nodes]]\nname = 'a'\nlanguages = ['en', 'es']\nslots = 65", "$.nodes[0].slots"),
        ("[[nodes]]\nname = 'a'\nlanguages = ['en']", "two or more"),
        ("[[nodes]]\nname = 'a'", "give either languages or pairs"),
        ("[[nodes]]\nname = 'a'\npairs = ['en-es']", "'en-es' is not a pair like en>es"),
        ("[[nodes]]\nname = 'a'\npairs = ['en>es']\nsilent = 0.6\nempty = 0.6", "more than 1 together"),
        (WHOLE.replace("small", "big"), "2 kinds of nodes are called big"),
    ],
)
def test_what_is_wrong_with_a_profile_is_said(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as found:
        read(written(tmp_path, text))
    assert says in str(found.value)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.integers(1, 300))
def test_kinds_have_their_shares(shares: list[float], count: int) -> None:
    kinds = [Nodes(name=f"k{number}", share=share, pairs=["a>b"]) for number, share in enumerate(shares)]
    fleet = list(Profile(nodes=kinds).fleet(count))
    assert len({(kind.name, number) for kind, number, _ in fleet}) == count
    assert all(speed > 0 for _, _, speed in fleet)
    for kind in kinds:
        made = sum(one is kind for one, _, _ in fleet)
        assert abs(made - kind.share / sum(shares) * count) < len(kinds)


async def test_work_takes_its_time(autojump_clock: MockClock) -> None:
    counts: Counter[str] = Counter()
    runner = Simulated(USUAL.nodes[0], 4.0, Random(1), counts)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.run, job(2.0))
        await trio.sleep(0.2)
        assert runner.cpu_percent() == 25
    assert trio.current_time() - began == pytest.approx(0.5)
    outcome = await runner.run(job(4.0, audio_format="pcm16", audio=b64encode(bytes(128_000)).decode()))
    assert trio.current_time() - began == pytest.approx(1.5)
    assert (outcome.text_translated, outcome.tts_format, runner.cpu_percent()) == ("simulated", "pcm16", 0)
    timings = outcome.extra.service_timings
    assert timings is not None
    assert (timings.asr_ms, timings.nmt_ms, timings.tts_ms, timings.total_ms) == (500, 200, 300, 1000)
    assert counts == {"answered": 2}


async def test_it_fails_as_it_is_told(autojump_clock: MockClock) -> None:
    async def of(**luck: float) -> tuple[Simulated, Counter[str]]:
        counts: Counter[str] = Counter()
        return Simulated(Nodes(name="a", pairs=["en>es"], **luck), 4.0, Random(1), counts), counts

    failing, counts = await of(failing=1)
    with pytest.raises(JobFailed) as failure:
        await failing.run(job())
    assert (failure.value.code, counts) == (ErrorCode.PROCESSING_ERROR, {"failed": 1})
    empty, counts = await of(empty=1)
    assert (await empty.run(job())).extra.reason == "ASR_EMPTY"
    assert counts == {"empty": 1}
    silent, counts = await of(silent=1)
    with trio.move_on_after(SILENCE_SECONDS - 1) as cancelled:
        await silent.run(job())
    assert cancelled.cancelled_caught
    assert (counts, silent.busy) == ({"silent": 1}, 0)
    with pytest.raises(JobFailed, match="Unsupported audio format"):
        await silent.run(job(audio_format="mp3"))


def test_a_profile_is_for_simulated_nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(written(tmp_path, WHOLE))
    words = ["node", "--server", "ws://127.0.0.1:1/ws/node", "--profile"]
    assert main([*words, path]) == 2
    assert "--simulate N" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "none.toml"), "--simulate", "2"]) == 2
    assert "cannot be read" in capsys.readouterr().err
