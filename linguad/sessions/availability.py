"""Whether nodes serve the languages of each session: told when they are chosen, and when that changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Protocol

from msgspec import Struct, field

from linguad.core.coverage import Unserved
from linguad.core.job import JobRequest
from linguad.core.outputs import Send
from linguad.core.session import Session

FRESH_S = 1.0
"""What was found for one session holds for others so long; `changed` puts right what was different."""

LOOKS = 500
"""Needs that one call of `changed` looks at; those that are left have their turn in the next one."""

Pair = tuple[str, str]
"""Source and target."""

Need = tuple[object, ...]
"""All that decides which nodes can do a job."""


class FleetPort(Protocol):
    """What is known of nodes."""

    def unserved(self, request: JobRequest) -> Unserved | None:
        """What no ready node can do of such a job; None if one can do all of it."""
        ...

    def is_served(self, request: JobRequest) -> bool:
        """Whether one can."""
        ...


class Watched(Struct, eq=False):
    """What sessions need: a request that stands for it, what was found and when, and who they are."""

    need: Need
    request: JobRequest
    unserved: Unserved | None
    looked_at: float
    sessions: set[str] = field(default_factory=set)


class Availability:
    """Mutable state: what is needed and by whom, and which pairs each session knows to be missing."""

    def __init__(self, fleet: FleetPort) -> None:
        self._fleet = fleet
        self._watched: OrderedDict[Need, Watched] = OrderedDict()
        self._needs: dict[str, tuple[Need, ...]] = {}
        self._missing: dict[str, dict[Pair, Pair]] = {}

    def check(self, session: Session, now: float) -> list[Send]:
        """What to tell a session whose needs are new, or whose nodes came or went."""
        requests = session.needed()
        needs = tuple(map(self._one_of, map(_need, requests)))
        if needs != self._needs.get(session.id):
            self._let_go(session.id)
            self._needs[session.id] = needs
        known, missing = self._missing.pop(session.id, {}), dict[Pair, Pair]()
        events: list[Send] = []
        for need, request in zip(needs, requests, strict=True):
            unserved = self._look(need, request, session.id, now)
            asked = (request.src_lang, request.tgt_lang)
            if unserved is not None:
                missing[asked] = (unserved.src, unserved.tgt)
                if asked not in known:
                    events.append(session.unserved(_details(missing[asked], unserved.alternatives)))
            elif asked in known:
                events.append(session.served(_details(known[asked])))
        if missing:
            self._missing[session.id] = missing
        return events

    def changed(self, now: float) -> Iterator[str]:
        """The sessions whose needs are served now and were not, or the other way round; some twice."""
        for _ in range(min(LOOKS, len(self._watched))):
            need, watched = next(iter(self._watched.items()))
            self._watched.move_to_end(need)
            if self._fleet.is_served(watched.request) is not (watched.unserved is None):
                watched.unserved, watched.looked_at = self._fleet.unserved(watched.request), now
                yield from sorted(watched.sessions)

    def forget(self, session_id: str) -> None:
        """A session is over."""
        self._let_go(session_id)
        self._missing.pop(session_id, None)

    def _one_of(self, need: Need) -> Need:
        """The same need, once for all sessions that have it."""
        watched = self._watched.get(need)
        return need if watched is None else watched.need

    def _look(self, need: Need, request: JobRequest, session_id: str, now: float) -> Unserved | None:
        watched = self._watched.get(need)
        if watched is None:
            watched = self._watched[need] = Watched(need, request, self._fleet.unserved(request), now)
        elif now - watched.looked_at >= FRESH_S:
            watched.unserved, watched.looked_at = self._fleet.unserved(request), now
        watched.sessions.add(session_id)
        return watched.unserved

    def _let_go(self, session_id: str) -> None:
        for need in set(self._needs.pop(session_id, ())):
            watched = self._watched[need]
            watched.sessions.discard(session_id)
            if not watched.sessions:
                del self._watched[need]


def _need(request: JobRequest) -> Need:
    return (
        *(request.src_lang, request.tgt_lang, request.lang_a, request.lang_b),
        *(tuple(request.auto_langs or ()), request.pipeline, request.features),
        *(request.tenant, request.node_id),
    )


def _details(pair: Pair, alternatives: Iterable[Pair] | None = None) -> dict[str, object]:
    details: dict[str, object] = {"src": pair[0], "tgt": pair[1]}
    if alternatives is not None:
        details["alternatives"] = [{"src": src, "tgt": tgt} for src, tgt in alternatives]
    return details
