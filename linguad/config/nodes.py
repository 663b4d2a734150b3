"""Settings of compute nodes."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from linguad.config.base import GIB, KIB, LIVE, MIB, Table
from linguad.wire.override import Override


class Nodes(Table, frozen=True, kw_only=True):
    """Compute nodes: registration, health, capacity."""

    max_message_bytes: Annotated[
        int,
        Meta(
            ge=64 * KIB,
            le=128 * MIB,
            description="Longest message of a node; a longer one closes its socket with 1009. 32 MiB, "
            "because results carry speech in base64.",
        ),
    ] = 32 * MIB
    register_timeout_seconds: Annotated[
        float,
        Meta(
            ge=0.05,
            le=3600,
            description="A node socket that has not registered by then is closed. 60: real nodes first "
            "probe their hardware and start services.",
        ),
    ] = 60
    heartbeat_timeout_seconds: Annotated[
        float,
        LIVE,
        Meta(
            ge=0.1,
            le=3600,
            description="A node without heartbeat for so long is offline and its socket closed. 45 is three "
            "heartbeats of a real node (15 s each).",
        ),
    ] = 45
    status_scan_interval_seconds: Annotated[
        float,
        Meta(
            ge=0.05,
            le=300,
            description="How often overdue heartbeats are looked for. 5 finds a silent node at most 50 s "
            "after its last sign and costs nothing.",
        ),
    ] = 5
    health_check_count: Annotated[
        int,
        LIVE,
        Meta(
            ge=1,
            le=100,
            description="Healthy heartbeats before a new node gets work. 1: a node that says it is ready is "
            "believed once, and failures are counted below.",
        ),
    ] = 1
    warmup_timeout_seconds: Annotated[
        float,
        LIVE,
        Meta(
            ge=0.05,
            le=3600,
            description="A node that has not become ready so long after registration counts as degraded. "
            "60, as in the earlier server, is time to load models.",
        ),
    ] = 60
    failure_window: Annotated[
        int,
        LIVE,
        Meta(
            ge=1,
            le=1000,
            description="Last outcomes (heartbeat checks and jobs) that are looked at for a node's health. "
            "5 forgets an accident in little more than a minute.",
        ),
    ] = 5
    failure_count: Annotated[
        int,
        LIVE,
        Meta(
            ge=1,
            le=1000,
            description="Failures among these outcomes that make a node degraded. 3 of 5: one or two happen "
            "to every node.",
        ),
    ] = 3
    consecutive_failure_count: Annotated[
        int,
        LIVE,
        Meta(
            ge=1,
            le=1000,
            description="Failures in a row that make a node degraded at once. 3, as in the earlier server: "
            "one accident is not enough, and a broken node is soon left alone.",
        ),
    ] = 3
    quarantine_seconds: Annotated[
        float,
        LIVE,
        Meta(
            ge=0,
            le=86400,
            description="A node whose jobs failed comes back on probation, one job at a time; if that fails "
            "too it gets none for so long, and each time twice as long. 30 is two heartbeats.",
        ),
    ] = 30
    quarantine_max_seconds: Annotated[
        float,
        LIVE,
        Meta(
            ge=0,
            le=86400,
            description="The longest such time. 600: that a node was repaired shows within ten minutes.",
        ),
    ] = 600
    pairing_allow_fallback: Annotated[
        bool,
        LIVE,
        Meta(
            description="Whether the jobs of a session paired with a node may go to others when that node "
            "cannot be had within the waiting time. false: who asked for one node is not sent to strangers."
        ),
    ] = False
    overrides: Annotated[
        dict[str, Override],
        LIVE,
        Meta(
            description="What you say about single nodes, as tables [nodes.overrides.NODE]: cap (jobs at "
            "once), drain (no new jobs), weight (factor of its speed in the choice of a node), note. Empty: "
            "nodes speak for themselves; PATCH /api/v1/nodes/NODE says the same while linguad runs."
        ),
    ] = field(default_factory=dict)
    require_gpu: Annotated[
        Literal["never", "declared", "always"],
        Meta(
            description="Whether a node needs a GPU. `never` takes every node, so that a first try works on "
            "any machine; `declared` refuses a node that claims GPU services without having a "
            "GPU; `always` admits only nodes with a GPU and refuses others with "
            "NO_GPU_AVAILABLE and close 1008 (they try again when they reconnect). In "
            'production write: require_gpu = "always".'
        ),
    ] = "never"
    max_concurrent_jobs: Annotated[
        int,
        LIVE,
        Meta(
            ge=1,
            le=64,
            description="Jobs a node works on at once if it does not say itself. 4, as in the earlier "
            "server: a GPU node overlaps recognition, translation and speech of some jobs.",
        ),
    ] = 4
    outbound_queue_messages: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Most messages that wait for a node to read; one more closes its socket with 1013 "
            "and its jobs go elsewhere. 256 is far above any number of jobs of one node.",
        ),
    ] = 256
    outbound_queue_bytes: Annotated[
        int,
        Meta(
            ge=64 * KIB,
            le=4 * GIB,
            description="The same in bytes. 128 MiB holds the largest audio for every job a node may have.",
        ),
    ] = 128 * MIB
    unavailable_ttl_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=3600,
            description="How long a node gets no jobs for a service it said it lacks a model for. 60 is a "
            "short download; a restart of the service or a new registration ends it early.",
        ),
    ] = 60
    unavailable_window_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=300,
            description="Span over which such reports of one node are counted. 10, so that a node gone wild "
            "is ignored within seconds.",
        ),
    ] = 10
    unavailable_max_reports: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Most such reports of one node believed in that span; the jobs of all others move as "
            "well. 30 is more than a node has services.",
        ),
    ] = 30
