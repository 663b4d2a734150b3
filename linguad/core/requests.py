"""What the jobs of one session ask for: what they share, what each utterance adds (session-protocol 4.1)."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from linguad.core.ids import Ids
from linguad.core.job import DIRECT, JobRequest
from linguad.core.utterance import Cut, CutReason
from linguad.wire.common import PipelineConfig
from linguad.wire.session import Resume, SessionInit, SessionUpdate, Utterance

ONE_WAY, TWO_WAY = "one_way", "two_way_auto"


class Standing(Struct, frozen=True, kw_only=True):
    """What is known of a session beside what its client says."""

    tenant: str = DIRECT
    """Who pays, and whose turn it is."""
    node_id: str = ""
    """The node it was paired with; no other one gets its jobs (resolution 22)."""
    origin: str = ""
    """Where it comes from."""
    key_id: str = ""
    """The API key it was opened with."""
    answer_by: float | None = None
    """When its client stops waiting, monotonic s."""
    lane: str = ""
    """What nodes know it by, if not by its id. One that comes from another instance gets a fresh name: nodes
    refuse an utterance that they had before, and wait for those before it that went elsewhere."""
    told_all: bool = False
    """Whether it is told how each utterance ended, even one that was skipped before."""


class Requests:
    """Mutable state: what all requests share now, and after the turn that is being spoken."""

    def __init__(
        self, session_id: str, init: SessionInit, ids: Ids, trace_id: str, standing: Standing
    ) -> None:
        self._ids = ids
        self.shared = JobRequest(
            session_id=session_id,
            lane=standing.lane or session_id,
            utterance_index=0,
            reason=CutReason.MANUAL,
            src_lang=init.src_lang,
            tgt_lang=init.tgt_lang,
            dialect=init.dialect,
            features=init.features,
            pipeline=init.pipeline or PipelineConfig(),
            mode=init.mode,
            lang_a=init.lang_a,
            lang_b=init.lang_b,
            auto_langs=init.auto_langs,
            enable_streaming_asr=init.enable_streaming_asr is not False,
            partial_update_interval_ms=init.partial_update_interval_ms or 1000,
            trace_id=trace_id,
            tenant=standing.tenant,
            key_id=standing.key_id,
            answer_by=standing.answer_by,
            node_id=standing.node_id,
            turn_id="",
            last_audio_at=0.0,
            cut_at=0.0,
        )
        """What is asked for from the next turn on."""
        self._old: JobRequest | None = None
        self._old_turn: str | None = None

    def update(self, update: SessionUpdate, running_turn: str | None) -> None:
        """The client wants something else; what is being spoken keeps what it began with."""
        if self._old is None or self._old_turn != running_turn:
            self._old, self._old_turn = self.shared, running_turn
        self.shared = _updated(self.shared, update)

    def began_now(self, init: SessionInit, audio_format: str | None) -> SessionInit:
        """What a session that began with `init` would begin with now, on another instance."""
        shared = self.shared
        return replace(
            init,
            src_lang=shared.src_lang,
            tgt_lang=shared.tgt_lang,
            dialect=shared.dialect,
            features=shared.features,
            mode=shared.mode,
            lang_a=shared.lang_a,
            lang_b=shared.lang_b,
            auto_langs=shared.auto_langs,
            trace_id=shared.trace_id,
            audio_format=audio_format,
            pairing_code=None,
            tenant_id=None,
            resume=Resume(),
        )

    def of_cut(self, cut: Cut, index: int) -> JobRequest:
        """The request for a piece of streamed speech."""
        if self._old is not None and cut.turn_id != self._old_turn:
            self._old = self._old_turn = None
        return replace(
            self._old or self.shared,
            utterance_index=index,
            utterance_trace=self._ids.trace(),
            reason=cut.reason,
            turn_id=cut.turn_id,
            padding_ms=cut.padding_ms,
            last_audio_at=cut.last_audio_at,
            cut_at=cut.cut_at,
            last_client_ms=cut.last_client_ms,
            held_ms=cut.held_ms,
        )

    def of_utterance(self, message: Utterance, now: float) -> JobRequest:
        """The request for a whole utterance; what it says itself counts."""
        shared, streaming = self.shared, message.enable_streaming_asr
        interval_ms = message.partial_update_interval_ms
        return replace(
            shared,
            utterance_index=message.utterance_index,
            utterance_trace=self._ids.trace(),
            sound=hash(message.audio),
            src_lang=message.src_lang,
            tgt_lang=message.tgt_lang,
            dialect=message.dialect,
            features=message.features or shared.features,
            pipeline=message.pipeline or shared.pipeline,
            mode=message.mode or shared.mode,
            lang_a=message.lang_a or shared.lang_a,
            lang_b=message.lang_b or shared.lang_b,
            auto_langs=message.auto_langs or shared.auto_langs,
            enable_streaming_asr=shared.enable_streaming_asr if streaming is None else streaming,
            partial_update_interval_ms=interval_ms or shared.partial_update_interval_ms,
            trace_id=message.trace_id or shared.trace_id,
            turn_id=self._ids.uuid(),
            last_audio_at=now,
            cut_at=now,
        )


def _updated(shared: JobRequest, update: SessionUpdate) -> JobRequest:
    """The shared part with other languages.

    A pair means two-way mode: without a source of its own, that is `auto` then. A source or target alone ends
    it, for a node would go on to choose from the pair.
    """
    lang_a, lang_b = update.lang_a, update.lang_b
    dialect, features = update.dialect or shared.dialect, update.features or shared.features
    shared = replace(shared, dialect=dialect, features=features)
    if lang_a and lang_b:
        return replace(
            shared,
            src_lang=update.src_lang or "auto",
            tgt_lang=update.tgt_lang or lang_b,
            mode=update.mode or TWO_WAY,
            lang_a=lang_a,
            lang_b=lang_b,
            auto_langs=update.auto_langs or [lang_a, lang_b],
        )
    if update.src_lang or update.tgt_lang:
        return replace(
            shared,
            src_lang=update.src_lang or shared.src_lang,
            tgt_lang=update.tgt_lang or shared.tgt_lang,
            mode=update.mode or ONE_WAY,
            lang_a=None,
            lang_b=None,
            auto_langs=update.auto_langs,
        )
    return replace(shared, mode=update.mode or shared.mode, auto_langs=update.auto_langs or shared.auto_langs)
