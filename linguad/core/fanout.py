"""One utterance into several languages: which lane each language takes (node-protocol 6.2)."""

from __future__ import annotations

from msgspec.structs import replace

from linguad.core.job import JobRequest

MAX_OWN_LANES = 64
"""Languages of a session with a lane of their own; the dispatcher renames what further ones send."""


class Fanout:
    """Mutable state of one session: the last language on the plain lane, and those that have their own.

    Nodes refuse a second job with the same session and index (0.3), so a language that comes to an index
    another one has used moves to the lane `SESSION#LANGUAGE` and stays there.
    """

    def __init__(self) -> None:
        self._index = -1
        self._tgt_lang = ""
        self._own: set[str] = set()

    def place(self, request: JobRequest) -> JobRequest:
        """The request on its lane.

        A pair of languages is for the plain lane only: by it a node could take another target.
        """
        index, tgt_lang = request.utterance_index, request.tgt_lang
        used = index <= self._index and tgt_lang != self._tgt_lang
        if tgt_lang in self._own or (used and len(self._own) < MAX_OWN_LANES):
            self._own.add(tgt_lang)
            return replace(request, lane=f"{request.lane}#{tgt_lang}", lang_a=None, lang_b=None)
        if index > self._index:
            self._index, self._tgt_lang = index, tgt_lang
        return request
