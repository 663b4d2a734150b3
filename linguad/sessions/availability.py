"""Whether nodes serve the languages of each session: told when they are chosen, and when that changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from msgspec import Struct, field

from linguad.core.coverage import Unserved
from linguad.core.job import JobRequest
from linguad.core.outputs import Send
from linguad.core.session import Session

Pair = tuple[str, str]
"""Source and target."""


class FleetPort(Protocol):
    """What is known of nodes."""

    def unserved(self, request: JobRequest) -> Unserved | None:
        """What no ready node can do of such a job; None if one can do all of it."""
        ...

    def is_served(self, request: JobRequest) -> bool:
        """Whether one can."""
        ...


class Watched(Struct, eq=False):
    """One thing that sessions need, a request that stands for it, and who they are."""

    request: JobRequest
    served: bool
    sessions: set[str] = field(default_factory=set)


class Availability:
    """Mutable state: what is needed and by whom, and which pairs each session knows to be missing."""

    def __init__(self, fleet: FleetPort) -> None:
        self._fleet = fleet
        self._watched: dict[object, Watched] = {}
        self._needs: dict[str, list[object]] = {}
        self._missing: dict[str, dict[Pair, Pair]] = {}

    def check(self, session: Session) -> list[Send]:
        """What to tell a session whose needs are new, or whose nodes came or went."""
        self.forget(session.id, told=False)
        known, missing = self._missing.pop(session.id, {}), dict[Pair, Pair]()
        events: list[Send] = []
        for request in session.needed():
            unserved = self._fleet.unserved(request)
            self._watch(session.id, request, served=unserved is None)
            asked = (request.src_lang, request.tgt_lang)
            if unserved is not None:
                missing[asked] = (unserved.src, unserved.tgt)
                if asked not in known:
                    details = _details(missing[asked], unserved.alternatives)
                    events.append(session.served(details, now_served=False))
            elif asked in known:
                events.append(session.served(_details(known[asked]), now_served=True))
        if missing:
            self._missing[session.id] = missing
        return events

    def changed(self) -> Iterator[str]:
        """The sessions whose needs are served now and were not, or the other way round; some twice."""
        for watched in list(self._watched.values()):
            served = self._fleet.is_served(watched.request)
            if served is not watched.served:
                watched.served = served
                yield from sorted(watched.sessions)

    def forget(self, session_id: str, *, told: bool = True) -> None:
        """A session needs nothing any more; with `told` it does not even know what is missing."""
        for need in self._needs.pop(session_id, ()):
            watched = self._watched[need]
            watched.sessions.discard(session_id)
            if not watched.sessions:
                del self._watched[need]
        if told:
            self._missing.pop(session_id, None)

    def _watch(self, session_id: str, request: JobRequest, *, served: bool) -> None:
        need = (
            *(request.src_lang, request.tgt_lang, request.lang_a, request.lang_b),
            *(tuple(request.auto_langs or ()), request.pipeline, request.features),
            *(request.tenant, request.node_id),
        )
        watched = self._watched.setdefault(need, Watched(request, served))
        if session_id not in watched.sessions:
            watched.sessions.add(session_id)
            self._needs.setdefault(session_id, []).append(need)


def _details(pair: Pair, alternatives: Iterable[Pair] | None = None) -> dict[str, object]:
    details: dict[str, object] = {"src": pair[0], "tgt": pair[1]}
    if alternatives is not None:
        details["alternatives"] = [{"src": src, "tgt": tgt} for src, tgt in alternatives]
    return details
