"""Nodes and speakers around a daemon, so that there is something to be seen on the pages of operators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from math import inf

import trio
from harness import SERVICES, Client, Json, Node
from processes import DaemonProcess
from trio_websocket import ConnectionClosed

EVIL = "<img src=x onerror=\"window.hacked='node'\">"
"""A name that a stranger gave its node; what it says of itself is no better."""

EVIL_MEMBERS: Json = {
    "platform": "<script>hacked='platform'</script>",
    "version": "<svg onload=hacked=1>",
    "hardware": {"cpu_cores": 8, "memory_gb": 16, "gpus": [{"name": EVIL, "memory_gb": 8}]},
}


def languages(*codes: str) -> Json:
    """What a node says that hears and speaks these."""
    known = list(codes)
    return {
        "asr_languages": known,
        "tts_languages": known,
        "semantic_languages": known,
        "semantic_core_ready": True,
    }


class Crowd:
    """Nodes that work and people who speak, until the end of the test."""

    def __init__(self, daemon: DaemonProcess, nursery: trio.Nursery) -> None:
        self.daemon = daemon
        self._nursery = nursery

    async def node(
        self,
        name: str,
        codes: Sequence[str] = ("en", "es", "zh"),
        *,
        seconds: float = 0.02,
        **members: object,
    ) -> Node:
        """One that is ready and answers each job after so long; a negative time lets all of them fail."""
        node: Node = await self._nursery.start(self._run_node, name, codes, seconds, members)
        return node

    async def speaker(
        self, src: str, tgt: str, *, pause_s: float = 0.5, sentences: int = 1_000_000
    ) -> Client:
        """Somebody who says that many sentences and stays."""
        client: Client = await self._nursery.start(self._run_speaker, src, tgt, pause_s, sentences)
        return client

    async def _run_node(
        self,
        name: str,
        codes: Sequence[str],
        seconds: float,
        members: Json,
        *,
        task_status: trio.TaskStatus[Node],
    ) -> None:
        said = languages(*codes)
        async with self.daemon.unregistered() as node, trio.open_nursery() as nursery:
            await node.register(name, language_capabilities=said, **members)
            heartbeat = {"language_capabilities": said}
            if "installed_services" in members:
                heartbeat["installed_services"] = members["installed_services"]
            await node.heartbeat(**heartbeat)
            if seconds < 0:
                nursery.start_soon(_fail, node)
            else:
                nursery.start_soon(lambda: node.work(seconds=seconds))
            task_status.started(node)
            while node.connected:
                await trio.sleep(5)
                try:
                    await node.heartbeat(**heartbeat)
                except ConnectionClosed:
                    return

    async def _run_speaker(
        self, src: str, tgt: str, pause_s: float, sentences: int, *, task_status: trio.TaskStatus[Client]
    ) -> None:
        async with self.daemon.client(src_lang=src, tgt_lang=tgt) as client, trio.open_nursery() as nursery:
            nursery.start_soon(_listen, client)
            task_status.started(client)
            for mark in cycle(range(1, 200)):
                await client.speak(mark=mark)
                await trio.sleep(pause_s)
                sentences -= 1
                if not sentences:
                    break
            await trio.sleep_forever()


@asynccontextmanager
async def crowd(daemon: DaemonProcess) -> AsyncIterator[Crowd]:
    """Nodes and people of one test, who are gone after it."""
    async with trio.open_nursery() as nursery:
        yield Crowd(daemon, nursery)
        nursery.cancel_scope.cancel()


async def busy(some: Crowd) -> None:
    """A fleet in trouble: one node fails, one lacks a service, one has a hostile name, some people wait."""
    for number in range(5):
        codes = [("en", "es", "zh"), ("en", "fr"), ("en", "de", "zh"), ("en", "ja"), ("en", "es", "fr", "de")]
        await some.node(f"gpu-{number + 1}", codes[number], seconds=0.1 + 0.2 * number)
    await some.node(EVIL, **EVIL_MEMBERS)
    stopped = [
        service | {"status": "stopped"} if service["type"] == "tts" else service for service in SERVICES
    ]
    await some.node("short-of-speech", installed_services=stopped)
    await some.node("clumsy", ("en", "ko"), seconds=-1)
    gone = await some.node("gone-home", ("en", "ar"))
    await gone.leave()
    for src, tgt in (("en", "es"), ("en", "fr"), ("zh", "en"), ("en", "ja"), ("de", "en")):
        await some.speaker(src, tgt)
    await some.speaker("en", "ko", sentences=4)
    for _ in range(3):
        await some.speaker("en", "sw", sentences=1)


async def _fail(node: Node) -> None:
    while True:
        try:
            await node.fail(await node.job(), message=EVIL)
        except ConnectionClosed:
            return


async def _listen(client: Client) -> None:
    """Take in all that comes, however long nothing does; who does not is closed."""
    client.patience_s = inf
    while True:
        await client.hear()
