"""Settings of jobs."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from linguad.config.base import LIVE, Table


class Jobs(Table, frozen=True, kw_only=True):
    """One utterance on its way: waiting, deadlines, further attempts, choice of node."""

    timeout_base_seconds: Annotated[
        float,
        LIVE,
        Meta(
            ge=0.05,
            le=3600,
            description="A node's time for a job: this plus timeout_factor times the seconds of audio, kept "
            "between the two limits below. 60 covers the node's own waits for services and GPU.",
        ),
    ] = 60
    timeout_factor: Annotated[
        float,
        LIVE,
        Meta(
            ge=0,
            le=100,
            description="Further seconds per second of audio. 0.5: a node slower than that cannot keep up "
            "with a speaker anyway.",
        ),
    ] = 0.5
    timeout_min_seconds: Annotated[
        float,
        LIVE,
        Meta(
            ge=0.05,
            le=3600,
            description="Shortest time for a job, also where a node's speed is known. 15 exceeds the "
            "longest single wait inside a real node (13 s).",
        ),
    ] = 15
    timeout_max_seconds: Annotated[
        float,
        LIVE,
        Meta(
            ge=0.05,
            le=3600,
            description="Longest time for a job. 120: a result after two minutes helps nobody.",
        ),
    ] = 120
    pending_timeout_seconds: Annotated[
        float,
        LIVE,
        Meta(
            ge=0,
            le=600,
            description="How long a job waits for a free node before it ends with NO_AVAILABLE_NODE. 10 "
            "spans the reconnect of a node and is the most a speaker waits for a sign.",
        ),
    ] = 10
    failover_max_attempts: Annotated[
        int,
        LIVE,
        Meta(
            ge=1,
            le=20,
            description="Most attempts of a job, each on another node. 3: what fails on three nodes fails "
            "because of the job.",
        ),
    ] = 3
    job_max_age_seconds: Annotated[
        float,
        LIVE,
        Meta(
            ge=0.1,
            le=3600,
            description="Age at which a job ends, waits and attempts together. 150 is one longest attempt "
            "and time for a second of usual length.",
        ),
    ] = 150
    send_cancel: Annotated[
        bool,
        LIVE,
        Meta(
            description="Whether a node is told that a job it works on is no longer wanted. true saves its "
            "GPU time; nodes that do not know the message ignore it."
        ),
    ] = True
    terminal_retention_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=86400,
            description="How long an ended job is remembered, for late results and questions. 300, as in "
            "the earlier server, is longer than any late result comes.",
        ),
    ] = 300
    max_waiting: Annotated[
        int,
        LIVE,
        Meta(
            ge=1,
            le=1_000_000,
            description="Most jobs that wait for a node; one more is refused with NODE_OVERLOADED at once. "
            "10000 is what 1000 nodes clear within the waiting time (4 jobs each, 4 s a job).",
        ),
    ] = 10_000
    max_waiting_per_tenant: Annotated[
        int,
        LIVE,
        Meta(
            ge=1,
            le=1_000_000,
            description="Most jobs of one tenant that wait for a node, so that one tenant cannot fill the "
            "waiting room. 1000 is a tenth of it.",
        ),
    ] = 1_000
    idempotency_ttl_seconds: Annotated[
        float,
        LIVE,
        Meta(
            ge=0,
            le=86400,
            description="How long a repeated request gets the job it already made. 300, as in the earlier "
            "server; later the same words are a new request.",
        ),
    ] = 300
    explained_jobs: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Ended jobs that `linguad explain` still knows, the last ones, without sound and "
            "text. 10000 is a busy hour of a hundred speakers and takes about 30 MiB.",
        ),
    ] = 10_000
    affinity: Annotated[
        Literal["session", "turn", "spread"],
        LIVE,
        Meta(
            description="How long a speaker stays with a node. `session` keeps the node while it is fit, "
            "because real nodes stall on gaps in a session's indexes; `turn` keeps it only "
            "within what is said in one go; `spread` moreover avoids the nodes of the last "
            "spread_window_seconds, so that no node hears a whole conversation."
        ),
    ] = "session"
    spread_window_seconds: Annotated[
        float,
        LIVE,
        Meta(
            ge=0,
            le=86400,
            description="How long `spread` avoids a node that served a session, while there are others. 30, "
            "as in the earlier server: some sentences.",
        ),
    ] = 30
    spread_tenants: Annotated[
        tuple[str, ...],
        LIVE,
        Meta(
            description="Tenants whose sessions are spread whatever affinity says. Empty: none asked for it."
        ),
    ] = ()
    features: Annotated[
        Literal["prefer", "require"],
        LIVE,
        Meta(
            description="What a wish for a feature (emotion_detection and the like) means. `prefer` takes a "
            "node that claims it while one is free, and the result says which were applied; `require` "
            "ends a job without such a node with UNSUPPORTED_FEATURE. Real nodes claim none today."
        ),
    ] = "prefer"
    require_features_tenants: Annotated[
        tuple[str, ...],
        LIVE,
        Meta(
            description="Tenants for whom features are required whatever `features` says. Empty: none "
            "asked for it."
        ),
    ] = ()
    hedge_percent: Annotated[
        float,
        LIVE,
        Meta(
            ge=0,
            le=100,
            extra={"unit": "percent"},
            description="Jobs that may be sent to a second node beside a slow first one; the first usable "
            "answer wins, the other attempt is cancelled. 0 makes no second attempts: they cost GPU time.",
        ),
    ] = 0
    hedge_after: Annotated[
        float,
        LIVE,
        Meta(
            ge=0.05,
            le=1,
            description="Part of a job's time after which its node counts as slow. 0.8, so that few answers "
            "come twice and there is still time to gain.",
        ),
    ] = 0.8
    affinity_idle_minutes: Annotated[
        float,
        LIVE,
        Meta(
            ge=0,
            le=1440,
            description="After so long a silence a session is no longer bound to its node. 30 is the life "
            "of an abandoned room.",
        ),
    ] = 30
