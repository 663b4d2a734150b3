"""Wrong tries of a code or a key, by address: who guesses is stopped for a while, others are not."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

MAX_FAILED_TRIES = 10
"""Wrong codes that an address may try in TRIES_S; more, be they right, are not looked at."""

TRIES_S = 60.0

MAX_ADDRESSES = 10_000
"""Addresses whose wrong tries are remembered; the one that failed longest ago is forgotten for a new one."""

LOOKS = 2
"""Oldest addresses looked at per wrong try, whether they can be forgotten: faster than new ones come."""


class WrongTries:
    """Mutable state: when each address was wrong lately; times are monotonic s."""

    def __init__(self, most: int = MAX_FAILED_TRIES, within_s: float = TRIES_S, pause_s: float = 0.0) -> None:
        """An address may be wrong `most` times in `within_s`; then it waits until that is true again.

        With `pause_s` it waits at least so long after its last try. With 0 for `most` nobody ever waits.
        """
        self._most = most
        self._within_s = within_s
        self._pause_s = pause_s
        # The oldest of a plain dict is found the more slowly the more were deleted before it.
        self._failed: OrderedDict[str, list[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failed)

    def allows(self, address: str, now: float) -> bool:
        """Whether a code from this address is to be looked at."""
        return not self.wait_s(address, now)

    def wait_s(self, address: str, now: float) -> float:
        """How long no code from this address is looked at; 0 if one is."""
        tries = self._failed.get(address)
        if tries is None:
            return 0.0
        full = len(tries) >= self._most
        if full and tries[-1] - tries[0] < self._within_s and now < tries[-1] + self._pause_s:
            return max(tries[-1] + self._pause_s, tries[0] + self._within_s) - now
        while tries and tries[0] <= now - self._within_s:
            del tries[0]
        if not tries:
            del self._failed[address]
        return tries[0] + self._within_s - now if len(tries) >= self._most else 0.0

    def add(self, address: str, now: float) -> bool:
        """A code from this address was wrong; says whether it has to wait from now on."""
        if not self._most:
            return False
        tries = self._failed.pop(address, [])
        tries.append(now)
        del tries[: -self._most]
        self._failed[address] = tries
        self._forget(now)
        return not self.allows(address, now)

    def _forget(self, now: float) -> None:
        """Drop addresses that failed too long ago, and the oldest if there are too many."""
        long_ago = now - max(self._within_s, self._pause_s)
        for oldest, tries in list(islice(self._failed.items(), LOOKS)):
            if tries[-1] <= long_ago or len(self._failed) > MAX_ADDRESSES:
                del self._failed[oldest]
