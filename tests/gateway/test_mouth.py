"""What waits on its way to the core, because it has another rate."""

from __future__ import annotations

from typing import cast

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad.gateway.speech.talk import Talk
from linguad.gateway.stream.mouth import Mouth
from linguad.gateway.stream.opening import Terms

SECOND = bytes(range(1, 251)) * 384
"""At 48 kHz."""


class Ear:
    """Stands for a talk; hears how much was said."""

    def __init__(self) -> None:
        self.heard = 0

    def chunk(self, audio: bytes, *, final: bool = False) -> None:
        self.heard += len(audio)


async def test_what_waits_is_counted_and_it_is_told_when_less_waits(autojump_clock: MockClock) -> None:
    ear, left = Ear(), list[int]()
    mouth = Mouth(cast(Talk, ear), Terms(sample_rate=48_000), lambda: left.append(mouth.waiting_bytes))
    for _ in range(3):
        mouth.stream(SECOND, final=True)
    assert (mouth.waiting_bytes, ear.heard) == (3 * len(SECOND), 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mouth.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert left == [2 * len(SECOND), len(SECOND), 0]
    assert ear.heard == len(SECOND)
