"""A client before it connects."""

from __future__ import annotations

from dataclasses import dataclass

from .cable import LAG_S
from .languages import Languages


@dataclass(frozen=True)
class ClientSpec:
    """What it is and what befalls it; mean seconds between, 0 for never."""

    src: str
    tgt: str
    streams: bool
    two_way: bool = False
    gateway: bool = False
    """It is the old API gateway; of the rest only what concerns speech and its connection counts."""
    talks_s: float = 60.0
    longest_s: float = 12.0
    """Longest sentence, s; beyond ten it is cut into slices."""
    ending: str = "stays"
    """When it has talked it `stays`, `closes`, `drops` its socket, `vanishes`, or `begins anew` on it."""
    second_tgt: str = ""
    """Some utterances are wanted into this language instead."""
    features: tuple[str, ...] = ()
    pairs: bool = False
    """It gives the pairing code that was shown last."""
    updates_every_s: float = 0.0
    """It wants other languages."""
    resumes: bool = False
    """It goes on after a lost connection."""
    breaks_every_s: float = 0.0
    """Its connection is lost, or it thinks so; of gateways the chance is taken from it as well."""
    careless: bool = False
    """Coming back it sometimes says less than it knows, or something wrong."""
    acknowledges: float = 0.3
    """Chance that it tells which results it has, for each of them."""
    visits: bool = False
    """It goes into rooms."""
    prefers: str | None = None
    """What it says that it wants to hear there."""
    lag_s: float = LAG_S
    dozes_every_s: float = 0.0
    """It reads nothing for a while."""
    garbles: float = 0.0
    """Chance that a message is preceded by nonsense."""

    @property
    def languages(self) -> Languages:
        """Those it begins with."""
        return Languages.two_way(self.src, self.tgt) if self.two_way else Languages(self.src, self.tgt)
