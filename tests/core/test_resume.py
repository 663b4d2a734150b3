"""What a session keeps for a client that lost its connection (resolutions 15 and 17)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from linguad.core.resume import MAX_CHUNKS, AudioMark, AudioProgress, Recovery
from linguad.wire.resume import Stretch
from linguad.wire.session import MissingResult, TranslationResult


def text(index: int, audio: str = "") -> TranslationResult:
    return TranslationResult(
        session_id="s-1",
        utterance_index=index,
        job_id=f"job-{index}",
        text_asr="",
        text_translated="",
        tts_audio=audio,
        tts_format="opus",
        trace_id="t-1",
    )


def stretch(index: int, start: int) -> Stretch:
    return Stretch(index, start, start + 1, "manual")


def missing(index: int) -> MissingResult:
    return MissingResult(session_id="s-1", utterance_index=index, reason="merged", created_at_ms=1)


def recovery(max_results: int = 10, max_bytes: int = 1000) -> Recovery:
    return Recovery("secret", max_results, max_bytes)


class TestResults:
    def test_token_opens_and_nothing_else_does(self) -> None:
        kept = recovery()
        assert kept.opens("secret")
        assert not kept.opens("Secret")
        assert not kept.opens("")
        assert "secret" not in kept.token_hash

    def test_results_are_numbered_from_one(self) -> None:
        kept = recovery()
        assert [kept.number(text(7)).delivery, kept.number(missing(8)).delivery] == [1, 2]

    def test_what_was_missed_comes_again_in_order(self) -> None:
        kept = recovery()
        sent = [kept.number(text(index)) for index in range(5)]
        assert kept.can_follow(2)
        assert kept.after(2) == sent[2:]

    def test_nothing_was_missed(self) -> None:
        kept = recovery()
        kept.number(text(0))
        assert kept.can_follow(1)
        assert kept.after(1) == []

    def test_acknowledged_results_are_let_go(self) -> None:
        kept = recovery()
        for index in range(5):
            kept.number(text(index, "abcd"))
        kept.acknowledge(3)
        assert kept.kept_bytes == 8
        assert kept.can_follow(3)
        assert not kept.can_follow(2)

    def test_no_more_results_are_kept_than_may_be(self) -> None:
        kept = recovery(max_results=3)
        for index in range(5):
            kept.number(text(index))
        assert kept.can_follow(2)
        assert not kept.can_follow(1)

    def test_no_more_bytes_are_kept_than_may_be(self) -> None:
        kept = recovery(max_bytes=10)
        for index in range(3):
            kept.number(text(index, "abcd"))
        assert kept.kept_bytes == 8
        assert not kept.can_follow(0)

    def test_client_that_claims_what_was_never_sent_cannot_follow(self) -> None:
        kept = recovery()
        kept.number(text(0))
        assert not kept.can_follow(2)

    @given(st.lists(st.one_of(st.integers(0, 12), st.none()), max_size=60))
    def test_what_can_be_followed_is_whole(self, acknowledgements: list[int | None]) -> None:
        kept, sent = recovery(max_results=4), []
        for acknowledged in acknowledgements:
            if acknowledged is None:
                sent.append(kept.number(text(len(sent), "ab")))
            else:
                kept.acknowledge(acknowledged)
            for delivery in range(len(sent) + 2):
                if kept.can_follow(delivery):
                    assert kept.after(delivery) == sent[delivery:]
            assert kept.kept_bytes == 2 * len(kept.after(0))


class TestAudio:
    def test_chunk_of_an_utterance_without_outcome_is_not_settled(self) -> None:
        audio = AudioProgress()
        audio.chunk(5, 100)
        audio.cut(stretch(0, 0))
        audio.left({0}, 0)
        assert audio.settle(0, 100) is None

    def test_its_result_is_to_be_acknowledged(self) -> None:
        audio = AudioProgress()
        audio.chunk(5, 100)
        audio.cut(stretch(0, 0))
        audio.left((), 7)
        assert audio.settle(7, 100) is None
        assert audio.settle(8, 100) == AudioMark(5, 100)

    def test_results_that_left_together_are_acknowledged_one_by_one(self) -> None:
        audio = AudioProgress()
        for index in range(3):
            audio.chunk(index, 100 * index + 100)
            audio.cut(stretch(index, 100 * index))
        audio.left({2}, 0)
        assert audio.settle(1, 300) == AudioMark(0, 100)
        assert audio.settle(2, 300) == AudioMark(1, 200)
        audio.left((), 2)
        assert audio.settle(3, 300) == AudioMark(2, 300)

    def test_chunk_that_is_not_cut_is_not_settled(self) -> None:
        audio = AudioProgress()
        audio.chunk(5, 100)
        assert audio.settle(9, 0) is None

    def test_chunk_that_was_cut_inside_waits_for_both_parts(self) -> None:
        audio = AudioProgress()
        audio.chunk(5, 100)
        audio.chunk(6, 200)
        audio.cut(stretch(0, 0))
        audio.left((), 0)
        assert audio.settle(1, 150) == AudioMark(5, 100)
        audio.cut(stretch(1, 150))
        audio.left({1}, 1)
        assert audio.settle(1, 200) is None
        audio.left((), 1)
        assert audio.settle(2, 200) == AudioMark(6, 200)

    def test_first_utterance_holds_back_the_second(self) -> None:
        audio = AudioProgress()
        for seq in range(2):
            audio.chunk(seq, 100 * seq + 100)
            audio.cut(stretch(seq, 100 * seq))
        audio.left({0}, 0)
        assert audio.settle(1, 200) is None
        audio.left((), 1)
        assert audio.settle(2, 200) == AudioMark(1, 200)

    def test_final_without_audio_is_settled_with_what_it_ends(self) -> None:
        audio = AudioProgress()
        audio.chunk(5, 100)
        audio.chunk(6, 100)
        assert audio.settle(0, 100) == AudioMark(6, 100)

    def test_nothing_new_is_told_once(self) -> None:
        audio = AudioProgress()
        audio.chunk(5, 100)
        assert audio.settle(0, 100) is not None
        assert audio.settle(0, 100) is None

    def test_chunks_that_came_before_are_known(self) -> None:
        audio = AudioProgress()
        assert audio.is_new(0)
        audio.chunk(41, 100)
        assert not audio.is_new(41)
        assert audio.is_new(42)

    def test_memory_is_bounded(self) -> None:
        audio = AudioProgress()
        for seq in range(2 * MAX_CHUNKS):
            audio.chunk(seq, seq + 1)
        assert audio.settle(0, 2 * MAX_CHUNKS) == AudioMark(2 * MAX_CHUNKS - 1, 2 * MAX_CHUNKS)
