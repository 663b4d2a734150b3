"""An utterance in a room: its source language, and one job for each language of the others (6.4)."""

from __future__ import annotations

from msgspec.structs import replace

from linguad.core.job import JobRequest
from linguad.core.rooms import Plan
from linguad.wire.common import ExtraResult, PipelineConfig
from linguad.wire.language import AUTO, normalize

RECOGNITION_ONLY = PipelineConfig(use_nmt=False, use_tts=False)
"""For speech that all who listen understand."""


def language_heard(extra: ExtraResult | None) -> str:
    """The language that a node recognised, "" if it does not say."""
    if extra is None:
        return ""
    if extra.detected_src_lang:
        return extra.detected_src_lang
    likely = extra.language_probabilities or {}
    return max(likely, key=lambda language: likely[language], default="")


def source_in_room(request: JobRequest, heard: str) -> str:
    """What is spoken, as far as known: what an `auto` session was heard to speak, else its `lang_a`."""
    if normalize(request.src_lang) != AUTO:
        return request.src_lang
    return heard or request.lang_a or request.src_lang


def room_requests(request: JobRequest, plan: Plan, src_lang: str) -> list[JobRequest]:
    """The jobs of an utterance; where nobody needs a translation they read what was said."""
    if plan.own:
        return [replace(request, room_id=plan.room_id)]
    jobs, languages = [], plan.languages
    if plan.recognised:
        target = request.tgt_lang if normalize(src_lang) == AUTO else src_lang
        jobs = [replace(request_in_room(request, src_lang, target), pipeline=RECOGNITION_ONLY)]
        languages = [language for language in languages if normalize(language) != normalize(target)]
    jobs += [request_in_room(request, src_lang, language) for language in languages]
    return [replace(job, room_id=plan.room_id, for_speaker=not number) for number, job in enumerate(jobs)]


def request_in_room(request: JobRequest, src_lang: str, tgt_lang: str) -> JobRequest:
    """The same request for this target.

    A pair of languages is left out: by it a node would choose the target itself.
    """
    return replace(
        request,
        src_lang=src_lang,
        tgt_lang=tgt_lang,
        mode="one_way" if request.mode else None,
        lang_a=None,
        lang_b=None,
        auto_langs=request.auto_langs if normalize(src_lang) == AUTO else None,
    )


def language_of_result(request: JobRequest) -> str:
    """The language a job was translated to; "" where a node chose it from a pair."""
    return "" if request.lang_a and request.lang_b else request.tgt_lang
