"""The garbage collector, set so that it stops a daemon full of sessions and jobs seldom and briefly.

Nearly everything ends by reference counts; cycles are left behind by broken connections and exceptions. With
the interpreter's defaults three collections a second looked in vain through what had been made lately, and a
full one through everything there is: 13 and 80 ms in which nobody is served.
"""

from __future__ import annotations

import gc

YOUNG, MIDDLE, OLD = 10_000, 20, 20
"""Objects made until the youngest are looked at, and how often until the next older ones are."""


def settle() -> None:
    """What exists now will stay: never look at it again. For a daemon that has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
