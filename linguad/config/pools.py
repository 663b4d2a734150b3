"""Settings of the choice of a node: groups of nodes, and what makes one better than another."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from linguad.config.base import Table


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
    resource_threshold: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            extra={"unit": "percent"},
            description="Load (the highest of CPU, GPU and memory) from which a node is chosen only if the "
            "others are worse. 95, because a working node is meant to be busy.",
        ),
    ] = 95
