"""Utterances that belong together, and what was said before as context for the next (session-protocol 4.7).

A result often comes later than the window is long, and a sentence may last longer. So what counts is when an
utterance began, not when its result came, and the end of every utterance keeps its group open as the end of
playback does: a conversation that goes on is one group.

A group that is over is known for a while, without its texts: results that come late find the place they were
spoken in, and are no context of what came after.
"""

from __future__ import annotations

from unicodedata import category

from msgspec import Struct, field

from linguad.core.clock import Clock
from linguad.core.job import Context
from linguad.wire.language import normalize

PLAYING_S = 120.0
"""Playback whose end is never told counts as over after this (session-protocol 3.8)."""

MAX_NUMBERED = 256
"""Utterances of one group whose place is remembered, for results that come late or twice."""

MAX_LANGUAGES = 64
"""Languages whose translations of one utterance are known."""

MAX_FORMER = 8
"""Groups that are over and still known, for the same reason."""


class GroupRules(Struct, frozen=True, kw_only=True):
    """When utterances belong together, s, and how much of them is given as context."""

    window_s: float = 2.0
    max_parts: int = 8
    max_context_chars: int = 800


class Place(Struct, frozen=True):
    """Where an utterance stands: its group, and how many entered the group before it."""

    group_id: str
    part_index: int


class Part(Struct):
    """The lines of one utterance: what was heard, and its translations by language."""

    source: str = ""
    translations: dict[str, str] = field(default_factory=dict)


class Group(Struct):
    """Utterances with one id."""

    id: str
    began_at: float
    """When the first of it was spoken, monotonic s."""
    window_from: float
    """When the last of it was spoken or played, monotonic s."""
    parts: dict[int, Part] = field(default_factory=dict)
    """By utterance index; the highest ones, while the group is open."""
    places: dict[int, int] = field(default_factory=dict)
    entered: int = 0
    closed: bool = False
    """Whether only repeats are still of this group, whenever the rest was spoken."""


class Groups:
    """Mutable state of one session: the group that is open, and whether its speech is being played."""

    def __init__(self, session_id: str, clock: Clock, rules: GroupRules) -> None:
        self._session_id = session_id
        self._clock = clock
        self._rules = rules
        self._group: Group | None = None
        self._former: list[Group] = []
        self._playing_since: float | None = None
        self._last_ms = 0

    def heard(
        self,
        index: int,
        tgt_lang: str,
        source: str,
        translation: str,
        now: float,
        spoken: tuple[float, float],
    ) -> Place | None:
        """A result came; the place of its utterance, None without source text.

        `spoken` is when the utterance began and ended, monotonic s. Late, repeated and further results of the
        same utterance have the same place.
        """
        if not source.strip():
            return None
        language = normalize(tgt_lang)
        group = self._group_of(index, spoken) or self._begin(now, spoken)
        place = group.places.get(index)
        if place is None:
            place = group.places[index] = group.entered
            group.entered += 1
            group.began_at = min(group.began_at, spoken[0])
            if group is self._group:
                group.parts[index] = Part()
            if len(group.parts) > self._rules.max_parts:
                del group.parts[min(group.parts)]
            if len(group.places) > MAX_NUMBERED:
                del group.places[next(iter(group.places))]
        if (part := group.parts.get(index)) is not None:
            longest = self._rules.max_context_chars
            part.source = "User: " + _tail(" ".join(source.split()), longest)
            known = language in part.translations or len(part.translations) < MAX_LANGUAGES
            if known and (translation := " ".join(translation.split())):
                part.translations[language] = "Target: " + _tail(translation, longest)
        group.window_from = max(group.window_from, spoken[1])
        return Place(group.id, place)

    def context(self, tgt_lang: str, began_at: float) -> Context | None:
        """What was said before an utterance that began then, if it belongs to the group that is open."""
        group, longest = self._group, self._rules.max_context_chars
        if group is None or not group.parts or not longest or not self._is_open(group, began_at):
            return None
        lines: list[str] = []
        for index in sorted(group.parts, reverse=True):
            part = group.parts[index]
            translation = part.translations.get(normalize(tgt_lang), "")
            longest -= len(part.source) + bool(translation) + len(translation) + bool(lines)
            if lines and longest < 0:
                break
            lines += [translation, part.source] if translation else [part.source]
        text = "\n".join(reversed(lines))
        return Context(group.id, group.entered, _tail(text, self._rules.max_context_chars))

    def play_started(self, group_id: str, now: float) -> bool:
        """The client began to play speech; False if it is of no group that is open."""
        if self._group is None or group_id != self._group.id:
            return False
        self._playing_since = now
        return True

    def play_ended(self, group_id: str, now: float) -> bool:
        """The client finished playing; the window begins anew."""
        if self._group is None or group_id != self._group.id:
            return False
        self._playing_since = None
        self._group.window_from = max(self._group.window_from, now)
        return True

    def spoke(self) -> None:
        """The client sent sound, so it does not play any more."""
        self._playing_since = None

    def close(self) -> None:
        """What comes next belongs to another group."""
        if self._group is not None:
            self._group.closed = True
            self._retire(self._group)

    def _group_of(self, index: int, spoken: tuple[float, float]) -> Group | None:
        """The group that has this utterance, else the last one in whose window it was spoken."""
        began_at, ended_at = spoken
        fitting = None
        for group in (self._group, *reversed(self._former)):
            if group is None or ended_at < group.began_at - self._rules.window_s:
                continue
            if self._is_open(group, began_at):
                if index in group.places:
                    return group
                if fitting is None and not group.closed:
                    fitting = group
        return fitting

    def _is_open(self, group: Group, began_at: float) -> bool:
        since = self._playing_since if group is self._group else None
        playing = since is not None and began_at <= since + PLAYING_S
        return playing or began_at <= group.window_from + self._rules.window_s

    def _begin(self, now: float, spoken: tuple[float, float]) -> Group:
        """A group with a new id, which counts up where two begin in the same ms.

        It is the open one from now on, unless it was spoken before that.
        """
        self._last_ms = max(self._clock.epoch_ms(now), self._last_ms + 1)
        group = Group(f"group_{self._session_id}_{self._last_ms}", *spoken)
        if self._group is not None and spoken[1] < self._group.began_at:
            self._keep(group)
            return group
        if self._group is not None:
            self._retire(self._group)
        group.window_from = max(now, spoken[1])
        self._group = group
        return group

    def _retire(self, group: Group) -> None:
        """The group is over; what was said in it is not needed any more."""
        group.parts.clear()
        self._keep(group)
        self._group = self._playing_since = None

    def _keep(self, group: Group) -> None:
        self._former.append(group)
        del self._former[:-MAX_FORMER]


def _tail(text: str, longest: int) -> str:
    """The end of a text, not beginning with a mark that belongs to the character before."""
    if len(text) <= longest:
        return text
    start = len(text) - longest
    while start < len(text) and category(text[start]).startswith("M"):
        start += 1
    return text[start:].lstrip()
