"""Speech whose packets have numbers, and nodes that say which they heard: no loss goes unseen."""

from __future__ import annotations

import json
from base64 import b64decode

import trio
from harness import Json, Node
from trio_websocket import ConnectionClosed

from linguad.client import Event, Session
from linguad.net import dial
from linguad.wire import opus
from linguad.wire.session import TranslationResult

PACKETS = 13
"""In a chunk: 260 ms."""


class Echo:
    """A node that says which packets it heard, and connects again and again; what it heard is kept."""

    def __init__(self, port: int, work_s: float = 0.0) -> None:
        """`work_s` is how long it takes for a job."""
        self.heard: dict[tuple[str, int], list[int]] = {}
        """Numbers of the packets by session and utterance."""
        self._port = port
        self._work_s = work_s

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; starts when it is registered for the first time."""
        while True:
            try:
                url = f"ws://127.0.0.1:{self._port}/ws/node"
                async with dial.websocket(url) as ws, trio.open_nursery() as nursery:
                    node = Node(ws, patience_s=1000.0)
                    await node.register()
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    nursery.start_soon(node.beat)
                    while True:
                        await self._answer(node, await node.job())
            except* (dial.DialError, ConnectionClosed):
                await trio.sleep(0.1)

    async def _answer(self, node: Node, job: Json) -> None:
        numbers = list(map(number_of, opus.packets(b64decode(job["audio"]))))
        utterance = (job["session_id"], job["utterance_index"])
        assert utterance not in self.heard, "nothing fails here, so nothing is tried again"
        self.heard[utterance] = numbers
        await trio.sleep(self._work_s)
        await node.answer(job, text_asr=json.dumps(numbers))


def packet(number: int) -> bytes:
    """What no decoder would take, which linguad never tries."""
    return number.to_bytes(4, "big") + bytes(56)


def number_of(packet: bytes) -> int:
    return int.from_bytes(packet[:4], "big")


def chunks(count: int, first: int = 0) -> list[bytes]:
    """Speech that begins with this packet."""
    numbers = range(first, first + count * PACKETS)
    return [
        opus.join(list(map(packet, numbers[at : at + PACKETS]))) for at in range(0, len(numbers), PACKETS)
    ]


async def until_heard(session: Session, last: int) -> tuple[list[Event], list[list[int]]]:
    """All events until a result with this packet, and the packets of each result."""
    events: list[Event] = []
    heard: list[list[int]] = []
    while not heard or heard[-1][-1] != last:
        events.append(await session.receive())
        if isinstance(events[-1], TranslationResult):
            heard.append(json.loads(events[-1].text_asr))
    return events, heard
