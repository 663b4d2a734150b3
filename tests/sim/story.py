"""Who takes part in the run of a seed and what befalls them, drawn from its chance."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal, TypeVar

from msgspec.structs import replace as replace_struct

from linguad.core.rooms import RoomRules
from linguad.core.rules import Affinity, JobRules, SessionRules

from .cable import LAG_S
from .languages import CODES
from .link import LinkLimits
from .node import NodeFaults, NodeSpec
from .server import Settings
from .spec import ClientSpec
from .worker import JobFaults

TALK_S = 60.0
"""How long clients talk."""

PAIRS = (("en", "es"), ("zh", "en"), ("es", "zh"))
GENERATIONS = ("090d", "baaf", "head", "head")
FEATURES = ("emotion_detection", "speech_rate_control")

AFFINITIES: tuple[Affinity, ...] = ("session", "session", "turn", "spread")

Kind = Literal["calm", "frail", "rough"]
"""No faults; nodes whose connections and processes die, but do their work; everything that can happen."""

T = TypeVar("T")


@dataclass(frozen=True)
class Mishaps:
    """What befalls the daemon itself; mean seconds between, 0 for never."""

    stands_still_every_s: float = 0.0
    """The process gets no time to run."""
    leaps_every_s: float = 0.0
    """The machine was paused: its clock is later, and nothing came meanwhile."""
    clock_set_every_s: float = 0.0
    """Somebody sets the clock on the wall."""
    operator_every_s: float = 0.0
    """An operator says something about a node."""


@dataclass(frozen=True)
class Story:
    """The cast of a run."""

    kind: Kind
    nodes: tuple[NodeSpec, ...]
    clients: tuple[ClientSpec, ...]
    settings: Settings = field(default_factory=Settings)
    mishaps: Mishaps = Mishaps()
    stops_after_s: float | None = None
    """When the server gets the signal to stop, while clients still talk."""
    drain_s: float = 0.0
    """How long jobs may take then."""

    @property
    def honest(self) -> bool:
        """Whether all that was said must come back, as a text or an error: its nodes drop no answers."""
        return self.kind != "rough"


class Teller:
    """Draws a story; add new kinds of trouble here, each with a switch in the specs."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._in_rooms = False
        """Whether clients go into rooms in this story."""

    def story(self) -> Story:
        """The story of a seed."""
        kinds: tuple[Kind, ...] = ("calm", "frail", "rough")
        [kind] = self._random.choices(kinds, (20, 20, 60))
        rough = kind == "rough"
        self._in_rooms = self._random.random() < 0.35
        return Story(
            kind,
            tuple(self.node(kind, f"n{number}") for number in range(self._random.randint(1, 7))),
            tuple(self.client(kind) for _ in range(self._random.randint(2 if self._in_rooms else 1, 5))),
            self.settings(kind),
            self._mishaps() if rough else Mishaps(),
            stops_after_s=self._maybe(self._random.uniform(5.0, TALK_S), None, 0.15),
            drain_s=self._random.choice([0.0, 1.0, 5.0, 60.0]),
        )

    def node(self, kind: Kind, name: str) -> NodeSpec:
        """One node."""
        make = {"calm": self._calm_node, "frail": self._frail_node, "rough": self._rough_node}[kind]
        return make(name)

    def settings(self, kind: Kind) -> Settings:
        """Those of the server, or of all instances."""
        return self._settings() if kind == "rough" else self._plain_settings()

    def _maybe(self, value: T, otherwise: T, chance: float = 0.3) -> T:
        return value if self._random.random() < chance else otherwise

    def _calm_node(self, name: str) -> NodeSpec:
        random = self._random
        return NodeSpec(
            name,
            codes=("en", "es", "zh"),
            generation=random.choice(GENERATIONS),
            cap=random.randint(4, 8),
            speed=random.uniform(0.05, 0.3),
            talks=random.random() < 0.2,
        )

    def _frail_node(self, name: str) -> NodeSpec:
        faults = NodeFaults(
            dies_every_s=self._maybe(15.0, 0.0, 0.7), restarts_every_s=self._maybe(30.0, 0.0, 0.5)
        )
        return replace(self._calm_node(name), faults=faults)

    def _rough_node(self, name: str) -> NodeSpec:
        random = self._random
        faults, job_faults = self._faults()
        return NodeSpec(
            name,
            codes=random.choice([("en", "es", "zh"), ("en", "es"), ("zh", "en", "es"), ("es", "zh")]),
            generation=random.choice(GENERATIONS),
            cap=random.randint(1, 4),
            speed=random.choice([0.1, 0.3, 0.9, 2.0]),
            lag_s=self._maybe(3.0, LAG_S, 0.1),
            talks=random.random() < 0.2,
            features=self._maybe(FEATURES, ()),
            faults=faults,
            job_faults=job_faults,
        )

    def _faults(self) -> tuple[NodeFaults, JobFaults]:
        """One node in four is sound, the others have some faults at once."""
        if self._random.random() < 0.25:
            return NodeFaults(), JobFaults()
        return NodeFaults(
            dies_every_s=self._maybe(20.0, 0.0),
            restarts_every_s=self._maybe(40.0, 0.0),
            hangs_every_s=self._maybe(60.0, 0.0),
            vanishes_every_s=self._maybe(60.0, 0.0, 0.15),
            dozes_every_s=self._maybe(40.0, 0.0, 0.15),
            ails_every_s=self._maybe(40.0, 0.0),
            registers_every_s=self._maybe(30.0, 0.0, 0.15),
            pairs_every_s=self._maybe(3.0, 0.0),
            recaps_every_s=self._maybe(20.0, 0.0, 0.15),
            cloned_every_s=self._maybe(40.0, 0.0, 0.1),
        ), JobFaults(
            mute=self._maybe(0.2, 0.0),
            late=self._maybe(0.2, 0.0),
            twice=self._maybe(0.5, 0.0),
            error=self._maybe(0.3, 0.0),
            foreign=self._maybe(0.2, 0.0),
        )

    def client(self, kind: Kind) -> ClientSpec:
        """One client."""
        random = self._random
        src, tgt = random.choice(PAIRS)
        two_way = random.random() < 0.3
        [other] = {"en", "es", "zh"} - {src, tgt}
        visits = self._in_rooms and random.random() < 0.8
        resumes = random.random() < 0.4
        spec = ClientSpec(
            src,
            tgt,
            streams=visits or random.random() < 0.6,
            two_way=two_way,
            gateway=not visits and random.random() < 0.2,
            second_tgt="" if two_way else self._maybe(other, "", 0.15),
            talks_s=random.uniform(10.0, TALK_S),
            longest_s=random.choice([3.0, 12.0, 25.0 if kind == "calm" else 40.0]),
            ending=random.choice(["stays", "stays", "stays", "closes", "drops"]),
            updates_every_s=self._maybe(12.0, 0.0),
            resumes=resumes,
            breaks_every_s=random.choice([0.0, 5.0, 12.0]),
            careless=self._maybe(True, False),
            acknowledges=random.choice([0.0, 0.3, 1.0]),
            visits=visits,
            prefers=random.choice([None, None, *CODES]),
        )
        if kind != "rough":
            return spec
        return replace(
            spec,
            ending=self._maybe(random.choice(["vanishes", "begins anew"]), spec.ending, 0.1),
            features=self._maybe(FEATURES[:1], ()),
            pairs=self._maybe(True, False),
            lag_s=self._maybe(3.0, LAG_S, 0.1),
            dozes_every_s=self._maybe(40.0, 0.0, 0.15),
            garbles=self._maybe(0.1, 0.0, 0.1),
        )

    def _plain_settings(self) -> Settings:
        jobs = JobRules(affinity=self._random.choice(AFFINITIES))
        return Settings(jobs=jobs, sessions=self._session_rules())

    def _session_rules(self) -> SessionRules:
        """Nearly those of every server; some keep less, and not for long."""
        random = self._random
        return replace_struct(
            Settings().sessions,
            detach_grace_s=random.choice([30.0, 30.0, 8.0]),
            kept_results=self._maybe(3, 256, 0.15),
            kept_bytes=self._maybe(300, 8 << 20, 0.1),
            rooms=RoomRules(max_members=self._maybe(2, 10, 0.2), idle_s=self._maybe(25.0, 1800.0, 0.2)),
        )

    def _settings(self) -> Settings:
        random = self._random
        hasty = random.random() < 0.3
        jobs = JobRules(
            timeout_base_s=6.0 if hasty else 60.0,
            timeout_min_s=3.0 if hasty else 15.0,
            affinity=random.choice(AFFINITIES),
            hedge_percent=self._maybe(100.0, 0.0),
            hedge_part=0.3,
            require_features=self._maybe(True, False, 0.15),
            send_cancel=self._maybe(False, True, 0.15),
            failover_max_attempts=random.choice([0, 1, 3, 3, 3]),
            max_waiting=self._maybe(3, 10_000, 0.1),
            pairing_allow_fallback=random.random() < 0.5,
        )
        return Settings(
            jobs=jobs,
            sessions=self._session_rules(),
            links=self._maybe(LinkLimits(outbox_messages=2, write_s=30.0), LinkLimits()),
            buffered_bytes=self._maybe(20_000, 1 << 30, 0.1),
        )

    def _mishaps(self) -> Mishaps:
        return Mishaps(
            stands_still_every_s=self._maybe(30.0, 0.0),
            leaps_every_s=self._maybe(40.0, 0.0, 0.15),
            clock_set_every_s=self._maybe(20.0, 0.0, 0.15),
            operator_every_s=self._maybe(15.0, 0.0, 0.15),
        )
