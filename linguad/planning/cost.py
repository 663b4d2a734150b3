"""What a load costs linguad itself: how many instances it takes (docs/planning.md)."""

from __future__ import annotations

from math import ceil

from msgspec import Struct

from linguad.planning.fleet import Fleet, Load

CHUNK_S = 0.256
"""Audio in a message of a streaming web client."""

HEARTBEAT_S = 15.0
"""Between two heartbeats of a node."""

JOB_MS = 1.5
CHUNK_MS = 0.17
"""CPU time of one core for an utterance and its result, and for each of its chunks: `bench/sessions.py`."""

HEARTBEAT_MS = 0.15
"""The same for a heartbeat of a node: `bench/heartbeat.py`."""

SESSION_KIB = 50.0
"""Memory of a session that talks: `bench/memory.py`."""


class Cost(Struct, frozen=True, kw_only=True):
    """What an instance can take."""

    job_ms: float = JOB_MS
    chunk_ms: float = CHUNK_MS
    core_use: float = 0.5
    """Part of a core that it may use: beyond about half its own queue gets long."""
    max_sessions: int = 20_000
    """The limit in the settings; 0 is none."""

    def of_utterance_ms(self, utterance_s: float) -> float:
        """CPU time for a streamed utterance."""
        return self.job_ms + self.chunk_ms * utterance_s / CHUNK_S


class Instances(Struct, frozen=True, kw_only=True):
    """How many instances it takes, and why."""

    count: int
    by_cpu: int
    by_sessions: int
    cores: float
    """That all of them together keep busy."""
    job_ms: float
    memory_gib: float
    """Of all sessions."""


def instances(fleet: Fleet, load: Load, cost: Cost) -> Instances:
    """What it takes for this load; each instance uses one core, for it is one process with one loop."""
    job_ms = cost.of_utterance_ms(load.utterance_s) / load.targets + cost.job_ms * (1 - 1 / load.targets)
    cores = load.jobs_per_s * job_ms / 1000 + fleet.nodes / HEARTBEAT_S * HEARTBEAT_MS / 1000
    by_cpu = ceil(cores / cost.core_use)
    by_sessions = ceil(load.sessions / cost.max_sessions) if cost.max_sessions else 1
    return Instances(
        count=max(1, by_cpu, by_sessions),
        by_cpu=by_cpu,
        by_sessions=by_sessions,
        cores=cores,
        job_ms=job_ms,
        memory_gib=load.sessions * SESSION_KIB / 2**20,
    )
