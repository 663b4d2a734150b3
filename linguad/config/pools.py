"""Settings of the choice of a node: groups of nodes, and what makes one better than another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from linguad.config.base import LIVE, Table, one_of

SERVICES = ("asr", "nmt", "tts", "tone", "semantic")
"""Types of service that a capability pool may ask for."""


class CapabilityPool(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the fleet by what its nodes have installed."""

    id: Annotated[int, Meta(ge=0, le=65535)]
    required_services: tuple[str, ...] = ()


class TenantPool(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the jobs of one tenant go."""

    pool: str
    """Name of a capability pool."""
    strict: bool = False


class Pools(Table, frozen=True, kw_only=True):
    """How nodes that serve the same are grouped and one of them is chosen."""

    count: Annotated[
        int,
        Meta(
            ge=0,
            le=997,
            description="Pools of the nodes that serve the same language pairs. 0 takes the smallest number "
            "of a fixed ladder that keeps each pool at max_members, so that pools grow with the fleet; a "
            "fixed number is best a prime, and is not reached by groups of fewer nodes.",
        ),
    ] = 0
    max_members: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Nodes per pool that the ladder aims at. 100, as in the earlier server: enough to "
            "even out load, few enough to look through.",
        ),
    ] = 100
    hash_seed: Annotated[
        int,
        Meta(
            ge=0,
            le=2**63 - 1,
            description="Seed of the hash that puts nodes and sessions into pools; must be the same on all "
            "instances. 0, as in the earlier server; a change moves most nodes.",
        ),
    ] = 0
    choices: Annotated[
        int,
        Meta(
            ge=1,
            le=16,
            description="Free nodes that are compared for each job. 3: two already avoid the busiest, the "
            "third helps where nodes differ in speed, and more crowd onto the same best one.",
        ),
    ] = 3
    policy: Annotated[
        Literal["expected_finish", "least_connections", "random"],
        Meta(
            description="What makes a node better than another among those compared. `expected_finish` takes "
            "the one that will be done first: (audio it has + audio of the job) / its speed + penalties; "
            "`least_connections` the smallest part of its slots in use, of equal ones the first done; "
            "`random` the first drawn. `expected_finish`, because nodes differ in speed; the others are for "
            "comparison."
        ),
    ] = "expected_finish"
    keep_ratio: Annotated[
        float,
        Meta(
            ge=1,
            le=100,
            description="A session keeps its node while the expected finish there is at most so many times "
            "that of the best. With policy `least_connections` the parts of slots in use are compared, one "
            "slot more being allowed; with `random` a node with a free slot is kept. 1.5: what a node knows "
            "of a speaker is worth half as long again.",
        ),
    ] = 1.5
    keep_margin_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=600,
            description="... or at most so long after it, which keep_ratio would not allow short jobs. Of "
            "use with policy `expected_finish` only. 1 second more is hardly noticed in a conversation.",
        ),
    ] = 1.0
    gpu_queue_task_seconds: Annotated[
        float,
        LIVE,
        Meta(
            ge=0,
            le=600,
            description="Audio that one task in the GPU queue of a node stands for, in its expected finish. "
            "3 is a usual utterance; 0 leaves the queue out.",
        ),
    ] = 3.0
    overload_penalty_seconds: Annotated[
        float,
        LIVE,
        Meta(
            ge=0,
            le=600,
            description="Added to the expected finish of a node at or above resource_threshold. 5 is more "
            "than usual nodes differ by; 0 leaves the threshold out.",
        ),
    ] = 5.0
    resource_threshold: Annotated[
        float,
        LIVE,
        Meta(
            ge=0,
            le=100,
            extra={"unit": "percent"},
            description="Load (the highest of CPU, GPU and memory) from which a node is chosen only if the "
            "others are worse. 95, because a working node is meant to be busy.",
        ),
    ] = 95
    capability: Annotated[
        dict[str, CapabilityPool],
        LIVE,
        Meta(
            description="Parts of the fleet by what nodes have installed, as tables "
            "[pools.capability.NAME]: id (0 to 65535), required_services (of asr, nmt, tts, tone, semantic; "
            "none takes all). A node is in the one pool that asks for most of what it has, and in none if it "
            "fits none. Empty: every node gets every job it fits."
        ),
    ] = field(default_factory=dict)
    tenants: Annotated[
        dict[str, TenantPool],
        LIVE,
        Meta(
            description="Capability pools that jobs of single tenants prefer, as tables "
            "[pools.tenants.TENANT]: pool (its name), strict (true: they go nowhere else). Empty: the id "
            "of a session decides."
        ),
    ] = field(default_factory=dict)
    match_scope: Annotated[
        Literal["core_only", "all_required"],
        LIVE,
        Meta(
            description="Services of a job that are compared with those of a capability pool. `core_only` "
            "compares asr, nmt and tts, as in the earlier server; `all_required` also tone and semantic."
        ),
    ] = "core_only"
    match_mode: Annotated[
        Literal["contains", "exact"],
        LIVE,
        Meta(
            description="When a capability pool is eligible for a job. `contains`: its nodes have at least "
            "what is compared; `exact`: they have that and no more, so that rich nodes do rich jobs."
        ),
    ] = "contains"
    strict_eligibility: Annotated[
        bool,
        LIVE,
        Meta(
            description="Whether a job for which no capability pool is eligible ends with NO_AVAILABLE_NODE "
            "at once. false lets it go to any pool, as in the earlier server."
        ),
    ] = False
    fallback: Annotated[
        bool,
        LIVE,
        Meta(
            description="Whether a job may go to another eligible capability pool when the preferred one has "
            "nobody free. true: a pool is for order, not for waiting."
        ),
    ] = True


def objections(pools: Mapping[str, CapabilityPool]) -> Iterator[str]:
    """What is wrong with capability pools though each is well formed (pools-and-cluster 1.8)."""
    names: dict[int, str] = {}
    for name, pool in pools.items():
        for service in pool.required_services:
            if service not in SERVICES:
                yield f'{name}: there is no service "{service}"; allowed is {one_of(SERVICES)}'
        if (other := names.setdefault(pool.id, name)) != name:
            yield f"{name}: has the id {pool.id}, as {other}; every pool needs its own"


def strangers(pools: Pools) -> Iterator[tuple[str, str]]:
    """Paths of tenants whose pool does not exist, with the problem."""
    for tenant, chosen in pools.tenants.items():
        if chosen.pool not in pools.capability:
            known = f"there are {', '.join(pools.capability)}" if pools.capability else "there are none"
            yield f"pools.tenants.{tenant}.pool", f'no capability pool is named "{chosen.pool}"; {known}'
