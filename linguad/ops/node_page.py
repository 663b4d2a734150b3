"""A node as JSON, for the list of nodes and for its own page; nothing that was said is in it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from linguad.core.dispatch import Dispatch
from linguad.core.job import Attempt, Job
from linguad.core.key import Key
from linguad.core.node import Node
from linguad.core.pairing import LiveCode
from linguad.core.standing import why_idle

SHOWN_ATTEMPTS = 20
SHOWN_KEYS = 200

_OFFLINE = "its connection is gone; start it, or look at its network, and it gets work again"


def summary(node: Node, used: int) -> dict[str, Any]:
    """A node in the list; `slots_used` of `slots` jobs are running."""
    return {
        "node_id": node.id,
        "owner": node.owner,
        "status": node.status.value,
        "platform": node.platform,
        "gpus": [gpu.name for gpu in node.hardware.gpus or ()],
        "accepts_public_jobs": node.accepts_public,
        "slots": node.cap,
        "slots_used": used,
        "weight": node.weight,
        "note": node.override.note,
        "services_running": node.services.running.names,
        "services_unavailable": node.services.marked,
        "no_work_reasons": dict(node.no_work),
        "asr_languages": sorted(node.languages.asr),
        "tts_languages": sorted(node.languages.tts),
        "cpu_percent": node.usage.cpu_percent,
        "gpu_percent": node.usage.gpu_percent,
    }


def page(node: Node, dispatch: Dispatch, now: float) -> dict[str, Any]:
    """All about a node but who is paired with it; times are seconds."""
    fleet, health = dispatch.fleet, node.health
    configured = node.rules.overrides.get(node.id)
    keys = fleet.index_keys(node.id, SHOWN_KEYS)
    return summary(node, fleet.slots_used(node.id)) | {
        "hardware": msgspec.to_builtins(node.hardware),
        "registered_s": round(now - node.registered_at, 3),
        "capability_pool": _capability_pool(node),
        "services": {
            name: kinds.names for name, kinds in islice(node.services.running_ids.items(), SHOWN_KEYS)
        },
        "models": sorted(node.models)[:SHOWN_KEYS],
        "efficiencies": dict(islice(node.efficiencies.items(), SHOWN_KEYS)),
        "reruns": msgspec.to_builtins(node.reruns),
        "generation": "oldest" if node.oldest_generation else "current",
        "features": node.features.names,
        "override": {
            "said": msgspec.to_builtins(node.said),
            "configured": msgspec.to_builtins(configured) if configured is not None else {},
        },
        "health": {
            "state": health.state.value,
            "on_probation": health.on_probation,
            "failed_probations": health.failed_probations,
            "quarantine_left_s": round(max(0.0, health.quarantined_until - now), 3),
            "heartbeat_age_s": round(now - node.last_heartbeat_at, 3),
        },
        **_idle(node),
        "index_keys": [_key(key) | {"speed": speed, "pool": pool} for key, speed, pool in keys],
        "missing_types": dict(node.missed),
        "learned_speeds": [
            _key(key) | {"speed": speed} for key, speed in fleet.speeds.table(node.id).items()
        ],
        "stage_speeds": [
            {"stage": kind, "languages": languages, "speed": speed}
            for (kind, languages), speed in fleet.speeds.stages(node.id).items()
        ],
        "last_attempts": last_attempts(node.id, dispatch),
    }


def pairing(live: LiveCode, epoch_ms: int) -> dict[str, Any]:
    """A pairing code that can be used; `epoch_ms` is when it expires."""
    return {"node_id": live.node_id, "code": live.code, "expires_at_ms": epoch_ms}


def last_attempts(node_id: str, dispatch: Dispatch) -> list[dict[str, Any]]:
    """The attempts of the jobs that came here last, the newest first."""
    found = list(islice(_attempts(node_id, dispatch), SHOWN_ATTEMPTS))
    found.sort(key=lambda held: held[1].sent_at, reverse=True)
    return [
        {
            "job_id": job.id,
            "number": attempt.number,
            "chosen": attempt.chosen,
            "state": attempt.state.name.lower(),
            "end": attempt.end,
            "seconds": None if attempt.ended_at is None else round(attempt.ended_at - attempt.sent_at, 3),
        }
        for job, attempt in found
    ]


def _attempts(node_id: str, dispatch: Dispatch) -> Iterator[tuple[Job, Attempt]]:
    for job in reversed(dispatch.jobs.values()):
        for attempt in reversed(job.attempts):
            if attempt.node_id == node_id:
                yield job, attempt


def _capability_pool(node: Node) -> dict[str, Any] | None:
    return None if node.pool is None else {"id": node.pool, "name": node.rules.pools.name(node.pool)}


def _idle(node: Node) -> dict[str, str | None]:
    if not node.online:
        return {"idle_reason": "offline", "idle_message": _OFFLINE}
    why = why_idle(node)
    return {"idle_reason": why and why.reason, "idle_message": why and why.cure}


def _key(key: Key) -> dict[str, Any]:
    return {
        "src": key.src,
        "tgt": key.tgt,
        "services": key.needs.names,
        "two_way": key.two_way,
        "features": key.features.names,
    }
