"""Nodes on bare sockets, cheaply: they work for a time that is set, and give back the audio they were given.

Each is of one of eight kinds, with twelve language pairs; all of them serve English into Spanish.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from msgspec.structs import replace

from bench.parts.bare import Loop, Socket
from bench.parts.echo_node import CAPABILITIES, REGISTER, SERVICES, result_of
from linguad.wire import codec
from linguad.wire.node import (
    HEARTBEAT_ACK,
    HeartbeatAck,
    JobAssign,
    NodeHeartbeat,
    NodeLanguageCapabilities,
    NodeRegisterAck,
    ResourceUsage,
)

BEAT_NS = 15_000_000_000
KINDS, HEARD, SPOKEN = 8, 3, 4
PAIRS = HEARD * SPOKEN
OTHERS = ("ar", "de", "fr", "hi", "it", "ja", "ko", "nl", "pl", "pt", "ru", "sv", "tr", "uk", "vi", "zh")


def _kind(number: int) -> NodeLanguageCapabilities:
    others = Random(number).sample(OTHERS, HEARD + SPOKEN - 2)
    heard, spoken = ["en", *others[: HEARD - 1]], ["es", *others[HEARD - 1 :]]
    return NodeLanguageCapabilities(
        asr_languages=heard,
        tts_languages=spoken,
        semantic_languages=heard + spoken,
        semantic_core_ready=True,
    )


LANGUAGES = [_kind(number) for number in range(KINDS)]


@dataclass(frozen=True)
class Manner:
    """How nodes work: slots, seconds for a job, whether they answer, and ask for answers to heartbeats."""

    slots: int = 4
    work_s: float = 0.0
    spread: float = 0.0
    """By what part of it the work is shorter or longer, at random; so slots do not all come free together."""
    answers: bool = True
    acks: bool = True


class Nodes:
    """All nodes of this process at one server."""

    def __init__(self, url: str, loop: Loop, manner: Manner) -> None:
        self.beats = self.beats_answered = self.busy = 0
        self.loop = loop
        self.manner = manner
        self._url = url
        self._chance = Random(2)
        self._nodes: list[Node] = []

    def open(self, count: int) -> None:
        """Connect so many nodes more; each beats at once, and from then on somewhere in its 15 s."""
        for _ in range(count):
            node = Node(self, self._url, len(self._nodes))
            self._nodes.append(node)
            self.loop.add(node)
            node.beat(node.beats[0])
            self.loop.at(time.monotonic_ns() + self._chance.randrange(BEAT_NS), node.beat_again)

    def burst(self, each: int, variants: Callable[[Node], Sequence[str]]) -> int:
        """Have each node send that many heartbeats without a pause, of its variants in turn; their number."""
        for count in range(each):
            for node in self._nodes:
                messages = variants(node)
                # The first variant is last: so a node leaves as it was, and the first beat is a change.
                node.beat(messages[(count + 1) % len(messages)])
            self.loop.run(0.0)
        return each * len(self._nodes)

    def work_s(self) -> float:
        """How long the next job takes."""
        manner = self.manner
        return manner.work_s * (1 + self._chance.uniform(-manner.spread, manner.spread))

    def close(self) -> None:
        """End all nodes."""
        for node in self._nodes:
            node.close()


class Node:
    """One connection, and what it sends every 15 s."""

    __slots__ = ("_all", "_id", "_socket", "beats", "changed", "moved")

    def __init__(self, nodes: Nodes, url: str, number: int) -> None:
        self._all = nodes
        self._socket = Socket(url, stamped=True)
        kind, slots = LANGUAGES[number % KINDS], nodes.manner.slots
        register = replace(
            REGISTER,
            language_capabilities=kind,
            max_concurrent_jobs=slots,
            advanced_features=[HEARTBEAT_ACK] if nodes.manner.acks else [],
        )
        ack = codec.scheduler_messages.decode(self._socket.ask(codec.encode(register)).decode())
        assert isinstance(ack, NodeRegisterAck), ack
        self._id = ack.node_id
        beat = NodeHeartbeat(
            node_id=self._id,
            timestamp=0,
            resource_usage=ResourceUsage(cpu_percent=20, gpu_percent=30, gpu_mem_percent=40, mem_percent=50),
            installed_services=SERVICES,
            capability_by_type=CAPABILITIES,
            language_capabilities=kind,
            max_concurrent_jobs=slots,
        )
        busier = ResourceUsage(cpu_percent=25, gpu_percent=35, gpu_mem_percent=45, mem_percent=55)
        other = LANGUAGES[(number + 1) % KINDS]
        self.beats = [codec.encode(beat)]
        """The heartbeat of a node that stays as it is."""
        self.moved = [*self.beats, codec.encode(replace(beat, resource_usage=busier))]
        """Heartbeats between which only the load changes."""
        self.changed = [*self.beats, codec.encode(replace(beat, language_capabilities=other))]
        """Heartbeats between which the languages change."""

    def fileno(self) -> int:
        """Of the socket."""
        return self._socket.fileno()

    def close(self) -> None:
        """Drop the connection."""
        self._socket.close()

    def beat(self, message: str) -> None:
        """Send a heartbeat."""
        self._socket.send(message)
        self._all.beats += 1

    def beat_again(self, due: int) -> int:
        """The heartbeat of every 15 s."""
        self.beat(self.beats[0])
        return due + BEAT_NS

    def listen(self) -> None:
        """Take what has come."""
        texts, nodes = self._socket.messages(), self._all
        arrived = self._socket.arrived
        for text in texts:
            message = codec.scheduler_messages.decode(text.decode())
            if isinstance(message, HeartbeatAck):
                nodes.beats_answered += 1
            elif isinstance(message, JobAssign):
                nodes.busy += 1
                if nodes.manner.answers:
                    due = arrived + round(nodes.work_s() * 1e9)
                    nodes.loop.at(due, partial(self._answer, message, arrived))

    def _answer(self, job: JobAssign, arrived: int, _due: int) -> None:
        self._all.busy -= 1
        self._socket.send(codec.encode(result_of(job, self._id, arrived)))
