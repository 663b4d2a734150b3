"""People who talk through whatever happens: every word of theirs is to be heard once, in order."""

from __future__ import annotations

import json
from typing import Any

import trio
from counting import PACKETS, chunks
from patience import PATIENCE_S
from processes import DaemonProcess

from linguad.client import Reconnected, open_session
from linguad.wire.session import MissingResult, TranslationResult

PATIENT: dict[str, Any] = {
    "sessions": {"gap_timeout_ms": 120_000},
    "jobs": {"pending_timeout_seconds": 60, "job_max_age_seconds": 120, "failover_max_attempts": 20},
}
"""Settings with which no word is given up, however long a trouble lasts on a busy machine."""


async def joined(*daemons: DaemonProcess) -> None:
    """Wait until all know each other."""
    with trio.fail_after(PATIENCE_S):
        for daemon in daemons:
            while True:
                page = json.loads((await daemon.get("/api/v1/cluster"))[1])
                if page.get("online_instances") == len(daemons):
                    break
                await trio.sleep(0.05)


async def talk(url: str, pause_s: float, enough: trio.Event) -> int:
    """Speak sentences until it is enough; all is heard once. How often the connection was lost."""
    said = 0
    heard: list[list[int]] = []
    events: list[Any] = []
    async with open_session(url, "en", "es") as session, trio.open_nursery() as nursery:
        over = False

        async def speak() -> None:
            nonlocal said, over
            while not over:
                is_last = enough.is_set()
                for payload in chunks(4, 4 * said * PACKETS):
                    await session.send_audio(payload, "opus")
                    await trio.sleep(pause_s)
                said += 1
                over = is_last
                await session.finish_utterance()

        nursery.start_soon(speak)
        while not (over and is_done(heard, said)):
            events.append(await session.receive())
            if isinstance(events[-1], TranslationResult):
                heard.append(json.loads(events[-1].text_asr))
    return check(heard, events, said)


def is_done(heard: list[list[int]], said: int) -> bool:
    """Whether the last word was heard."""
    return bool(heard) and heard[-1][-1] == 4 * said * PACKETS - 1


def all_of(sentences: int) -> list[list[int]]:
    """What is to be heard: every packet once, in order, the sentences as they were finished."""
    size = 4 * PACKETS
    return [list(range(at, at + size)) for at in range(0, sentences * size, size)]


def check(heard: list[list[int]], events: list[Any], sentences: int) -> int:
    """All was heard once, in one session; how often the connection was lost."""
    assert heard == all_of(sentences)
    results = [event for event in events if isinstance(event, TranslationResult)]
    assert [result.utterance_index for result in results] == list(range(sentences))
    assert [result.delivery for result in results] == list(range(1, sentences + 1))
    assert len({result.session_id for result in results}) == 1
    assert [event for event in events if isinstance(event, MissingResult)] == []
    news = [event for event in events if isinstance(event, Reconnected)]
    assert all(event.recovered and not event.lost for event in news)
    return len(news)
