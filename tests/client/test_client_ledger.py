"""What a client keeps and sends again: bookkeeping without connections (docs/sessions.md)."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from linguad.client.ledger import ENTRY_BYTES, Chunk, Ledger, changed
from linguad.wire.common import FeatureFlags
from linguad.wire.room import RoomJoin
from linguad.wire.session import ClientMessage, SessionInit, SessionUpdate, Utterance

INIT = SessionInit(client_version="1", platform="python", src_lang="en", tgt_lang="es", mode="one_way")
JOIN = RoomJoin(room_code="503118")


def ledger(limit: int = 2**20, *, keeps: bool = True) -> Ledger:
    return Ledger(INIT, keeps=keeps, limit=limit)


def chunk(seq: int, size: int = 100, *, final: bool = False) -> Chunk:
    return Chunk(seq, bytes(size), final, 0)


def utterance(index: int, tgt_lang: str = "es", size: int = 100) -> Utterance:
    return Utterance(
        session_id="s-1",
        utterance_index=index,
        manual_cut=True,
        src_lang="en",
        tgt_lang=tgt_lang,
        audio="A" * size,
        audio_format="opus",
        sample_rate=16000,
    )


def languages(src: str | None = None, tgt: str | None = None, pair: str | None = None) -> SessionUpdate:
    a, b = pair.split() if pair else (None, None)
    return SessionUpdate(session_id="s-1", src_lang=src, tgt_lang=tgt, lang_a=a, lang_b=b)


def send_all(book: Ledger) -> list[Chunk | ClientMessage]:
    """What leaves now, in order."""
    left = []
    while (entry := book.next) is not None:
        left.append(entry.what)
        book.mark_sent(entry)
    return left


def added(book: Ledger, *whats: Chunk | ClientMessage) -> list[Chunk | ClientMessage]:
    for what in whats:
        book.add(what)
    return list(whats)


class TestAudio:
    def test_it_leaves_once_in_order(self) -> None:
        book = ledger()
        said = added(book, chunk(0), JOIN, chunk(1))
        assert send_all(book) == said
        assert send_all(book) == []

    def test_session_that_goes_on_gets_what_did_not_arrive(self) -> None:
        book = ledger()
        said = added(book, *map(chunk, range(4)))
        send_all(book)
        assert book.go_on(1) == 0
        assert send_all(book) == said[2:]

    def test_session_that_got_nothing_gets_all(self) -> None:
        book = ledger()
        said = added(book, chunk(0), chunk(1))
        send_all(book)
        book.go_on(None)
        assert send_all(book) == said

    def test_new_session_gets_what_is_not_settled(self) -> None:
        book = ledger()
        said = added(book, *map(chunk, range(4)))
        send_all(book)
        book.audio_settled(1)
        book.begin_anew()
        assert send_all(book) == said[2:]

    def test_audio_that_arrived_is_kept_until_it_is_settled(self) -> None:
        book = ledger()
        said = added(book, *map(chunk, range(4)))
        send_all(book)
        book.go_on(2)
        book.begin_anew()
        assert send_all(book) == said

    def test_audio_that_arrived_without_our_knowing_is_not_waited_for(self) -> None:
        book = ledger()
        entry = book.add(chunk(0))
        book.go_on(0)
        assert entry.sent
        assert book.next is None

    def test_what_waits_for_a_connection_keeps_its_place(self) -> None:
        book = ledger()
        first, *rest = added(book, chunk(0), JOIN, chunk(1))
        entry = book.next
        assert entry is not None
        book.mark_sent(entry)
        book.go_on(None)
        assert send_all(book) == [first, *rest]

    def test_what_is_not_kept_goes_once(self) -> None:
        book = ledger()
        added(book, JOIN, chunk(0))
        send_all(book)
        book.begin_anew()
        assert send_all(book) == [chunk(0)]

    def test_speaking_is_what_was_sent_and_not_finished(self) -> None:
        book = ledger()
        added(book, chunk(0))
        assert not book.speaking
        send_all(book)
        assert book.speaking
        added(book, chunk(1, 0, final=True))
        send_all(book)
        assert not book.speaking

    def test_nothing_is_kept_for_servers_that_cannot_resume(self) -> None:
        book = ledger(limit=500, keeps=False)
        entries = [book.add(chunk(seq)) for seq in range(20)]
        assert not any(entry.kept for entry in entries)
        assert book.has_room
        send_all(book)
        book.begin_anew()
        assert send_all(book) == []


class TestUtterances:
    def test_only_unanswered_ones_go_again(self) -> None:
        book = ledger()
        said = added(book, utterance(0), utterance(1), utterance(2))
        send_all(book)
        book.answered(1)
        book.go_on(None)
        assert send_all(book) == [said[0], said[2]]

    def test_answer_that_comes_before_the_repetition_spares_it(self) -> None:
        book = ledger()
        entry = book.add(utterance(0))
        send_all(book)
        book.go_on(None)
        book.answered(0)
        assert entry.sent
        assert send_all(book) == []
        assert book.settled

    def test_one_that_a_stopping_server_cancelled_goes_to_the_next(self) -> None:
        book = ledger()
        said = added(book, utterance(0), utterance(1))
        send_all(book)
        book.answered(0, "cancelled")
        book.answered(1, "job_failed")
        book.begin_anew()
        assert send_all(book) == [said[0]]

    def test_languages_are_answered_one_by_one(self) -> None:
        book = ledger()
        said = added(book, utterance(0, "es"), utterance(0, "zh"))
        send_all(book)
        book.answered(0)
        book.begin_anew()
        assert send_all(book) == said[1:]

    def test_one_that_the_application_repeats_is_kept_once(self) -> None:
        book = ledger()
        added(book, utterance(0), utterance(0))
        send_all(book)
        book.answered(0)
        assert book.settled


class TestLanguages:
    def test_acknowledged_change_is_what_the_next_session_begins_with(self) -> None:
        book = ledger()
        added(book, languages(tgt="zh"))
        send_all(book)
        assert book.init.tgt_lang == "es"
        book.updated()
        assert book.init.tgt_lang == "zh"
        book.begin_anew()
        assert send_all(book) == []

    def test_speech_before_the_change_is_heard_in_its_own_languages(self) -> None:
        book = ledger()
        said = added(book, chunk(0), languages(tgt="zh"), chunk(1))
        send_all(book)
        book.updated()
        book.begin_anew()
        assert book.init.tgt_lang == "es"
        assert send_all(book) == said
        book.updated()
        book.audio_settled(0)
        assert book.init.tgt_lang == "zh"
        book.begin_anew()
        assert send_all(book) == said[2:]

    def test_change_that_was_not_acknowledged_goes_again(self) -> None:
        book = ledger()
        said = added(book, chunk(0), languages(tgt="zh"))
        send_all(book)
        book.go_on(0)
        assert send_all(book) == said[1:]

    def test_change_before_audio_that_arrived_has_arrived(self) -> None:
        book = ledger()
        said = added(book, chunk(0), languages(tgt="zh"), chunk(1), chunk(2))
        send_all(book)
        book.go_on(1)
        assert send_all(book) == said[3:]
        book.audio_settled(0)
        assert book.init.tgt_lang == "zh"

    def test_changes_add_up_as_servers_understand_them(self) -> None:
        pair = changed(INIT, languages(pair="en zh"))
        assert (pair.src_lang, pair.tgt_lang, pair.mode) == ("auto", "zh", "two_way_auto")
        assert (pair.lang_a, pair.lang_b, pair.auto_langs) == ("en", "zh", ["en", "zh"])
        single = changed(pair, languages(src="es"))
        assert (single.src_lang, single.tgt_lang, single.mode) == ("es", "zh", "one_way")
        assert (single.lang_a, single.lang_b, single.auto_langs) == (None, None, None)
        loud = SessionUpdate(session_id="s-1", features=FeatureFlags(emotion_detection=True))
        assert changed(pair, loud).lang_a == "en"
        assert changed(pair, loud).features == FeatureFlags(emotion_detection=True)


class TestLimit:
    def test_unsent_audio_is_never_dropped(self) -> None:
        book = ledger(limit=10 * (ENTRY_BYTES + 100))
        said = []
        while book.has_room:
            said += added(book, chunk(len(said)))
        assert len(said) == 10
        assert send_all(book) == said

    def test_oldest_that_was_sent_is_dropped_and_counted(self) -> None:
        book = ledger(limit=10 * (ENTRY_BYTES + 100))
        for seq in range(20):
            added(book, chunk(seq))
            send_all(book)
            assert book.has_room
        assert book.begin_anew() == 11
        assert send_all(book) == [chunk(seq) for seq in range(11, 20)]

    def test_what_arrived_is_not_lost(self) -> None:
        book = ledger(limit=2 * (ENTRY_BYTES + 100))
        added(book, *map(chunk, range(4)))
        send_all(book)
        assert book.go_on(3) == 0
        assert book.go_on(1) > 0
        book.audio_settled(3)
        assert book.begin_anew() == 0

    def test_dropped_utterance_that_is_answered_is_not_lost(self) -> None:
        book = ledger(limit=2 * (ENTRY_BYTES + 100))
        added(book, utterance(0), utterance(1), utterance(2))
        send_all(book)
        book.answered(0)
        assert book.begin_anew() == 1

    def test_lost_is_said_once(self) -> None:
        book = ledger(limit=ENTRY_BYTES)
        added(book, chunk(0))
        send_all(book)
        assert book.begin_anew() == 1
        assert book.begin_anew() == 0


class Recovery(RuleBasedStateMachine):
    """A client, and a server that settles in order; connections break, and servers lose their memory."""

    def __init__(self) -> None:
        super().__init__()
        self.book = ledger()
        self.said: list[Chunk | ClientMessage] = []
        self.heard: list[Chunk | ClientMessage] = []
        """What this server got of this session, repetitions left out as servers do."""
        self.settled = 0
        """Of `said`, how much the client knows to be settled; utterances among it are answered."""
        self.first = 0
        """Of `said`, where this session begins."""
        self.seq = 0

    @rule(final=st.booleans())
    def speak(self, final: bool) -> None:
        self.say(chunk(self.seq, final=final))
        self.seq += 1 + final

    @rule()
    def utter(self) -> None:
        self.say(utterance(len(self.said)))

    def say(self, what: Chunk | ClientMessage) -> None:
        self.said.append(what)
        self.book.add(what)

    @rule(count=st.integers(1, 5))
    def send(self, count: int) -> None:
        for _ in range(count):
            if (entry := self.book.next) is not None:
                self.hear(entry.what)
                self.book.mark_sent(entry)

    def hear(self, what: Chunk | ClientMessage) -> None:
        assert what not in self.said[: self.settled], "sent although it is settled"
        if what not in self.heard:
            self.heard.append(what)

    @precondition(lambda self: self.settled < self.first + len(self.heard))
    @rule(count=st.integers(1, 5))
    def settle(self, count: int) -> None:
        """The server answers; so far only in the order of what was said."""
        for what in self.said[self.settled : self.first + len(self.heard)][:count]:
            self.settled += 1
            if isinstance(what, Chunk):
                self.book.audio_settled(what.seq)
            else:
                assert isinstance(what, Utterance)
                self.book.answered(what.utterance_index)

    @rule(arrives=st.booleans())
    def lose_the_connection(self, arrives: bool) -> None:
        """What was about to be sent may arrive all the same."""
        if arrives and (entry := self.book.next) is not None:
            self.hear(entry.what)
        received = [what.seq for what in self.heard if isinstance(what, Chunk)]
        assert self.book.go_on(max(received, default=None)) == 0

    @rule()
    def lose_the_session(self) -> None:
        assert self.book.begin_anew() == 0
        self.heard.clear()
        self.first = self.settled

    @invariant()
    def heard_is_what_was_said(self) -> None:
        """Nothing is left out, doubled or in another order."""
        assert self.heard == self.said[self.first : self.first + len(self.heard)]

    def teardown(self) -> None:
        self.send(10_000)
        assert self.heard == self.said[self.first :]


TestRecovery = Recovery.TestCase
TestRecovery.settings = settings(max_examples=200, stateful_step_count=40)
