"""What the pools asked for a job answered: for metrics, after the choice (pools-and-cluster 3.5)."""

from __future__ import annotations

from linguad.core.capability import Probe
from linguad.core.fleet import Fleet
from linguad.core.job import Attempt, Job
from linguad.core.key import Key


def refusing(fleet: Fleet, job: Job) -> tuple[Probe, ...]:
    """The pools of a job none of which had a node, in the order in which they were asked."""
    return tuple(
        _refusal(fleet, job, key) for key in fleet.in_turn(job.key, job.lane.route, job.request.tenant)
    )


def passed(fleet: Fleet, job: Job, attempt: Attempt) -> tuple[Probe, ...]:
    """The pools that were asked before that of an attempt, for a job that may go to several."""
    found: list[Probe] = []
    for key in fleet.in_turn(job.key, job.lane.route, job.request.tenant):
        if key.pools == (attempt.pool,):
            break
        found.append(_refusal(fleet, job, key))
    return tuple(found)


def _refusal(fleet: Fleet, job: Job, key: Key) -> Probe:
    if not fleet.serves(key):
        reason = "no_nodes"
    elif not fleet.has_ready(key):
        reason = "status_not_ready"
    elif fleet.has_room(key):
        reason = "failed_before"
    else:
        reason = "capacity_exceeded"
    return Probe(key.pools[0] if key.pools else None, reason)
