"""Why a node gets no work, for its owner: one word and one sentence with the cure (node-protocol 3.4)."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from linguad.core.health import Status
from linguad.core.services import CORE_SERVICES, Services

if TYPE_CHECKING:
    from linguad.core.node import Node


class Reason(StrEnum):
    """All words there are."""

    NOT_REGISTERED = "not_registered"
    REGISTERING = "registering"
    DEGRADED = "degraded"
    DRAINING = "draining"
    GPU_REQUIRED = "gpu_required"
    GPU_USAGE_INVALID = "gpu_usage_invalid"
    NO_RUNNING_SERVICE = "no_running_service"
    NO_LANGUAGE_PAIR = "no_language_pair"
    NOT_PUBLIC = "not_public"


class Why(NamedTuple):
    """A reason and what to do about it."""

    reason: Reason
    cure: str


NOT_REGISTERED = Why(
    Reason.NOT_REGISTERED, "this connection has not registered this node; register it, then send heartbeats"
)
_GPU_REQUIRED = Why(
    Reason.GPU_REQUIRED,
    "this server asks for a GPU and the registration lists none; make the GPU driver answer, then reconnect",
)
_GPU_USAGE_INVALID = Why(Reason.GPU_USAGE_INVALID, "gpu_percent in resource_usage must lie between 0 and 100")
_NO_SERVICE = Why(
    Reason.NO_RUNNING_SERVICE, "no service of the types asr, nmt or tts is installed; install one"
)
_NO_LANGUAGE_PAIR = Why(
    Reason.NO_LANGUAGE_PAIR,
    "the languages it hears, translates and speaks make no pair; install models of one more language",
)
_NOT_PUBLIC = Why(
    Reason.NOT_PUBLIC,
    "accept_public_jobs is false, so only sessions paired with it give it work; pair one, or set it true",
)
_DRAINING = Why(
    Reason.DRAINING, "the operator of the server gives it no new jobs; ask there when that will end"
)
_REGISTERING = Why(Reason.REGISTERING, "it is well; it gets work when its next heartbeats are so, too")


def why_idle(node: Node) -> Why | None:
    """Why a connected node gets no work; None if it can get some."""
    if node.status is Status.DRAINING:
        return _DRAINING
    if (why := ailment(node)) is not None:
        return why
    match node.status:
        case Status.REGISTERING:
            return _REGISTERING
        case Status.DEGRADED:
            wait_s = max(0.0, node.health.quarantined_until - node.last_heartbeat_at)
            cure = f"too many of its jobs failed; see its log, it gets work again in {wait_s:.0f} s if well"
            return Why(Reason.DEGRADED, cure)
    return None if node.accepts_public else _NOT_PUBLIC


def ailment(node: Node) -> Why | None:
    """What the health check finds wrong in all that the node said of itself; None if it is well."""
    no_gpu = node.rules.require_gpu != "never" and not node.has_gpu
    if node.rules.require_gpu == "always" and no_gpu:
        return _GPU_REQUIRED
    if node.usage.gpu_percent is not None and not 0 <= node.usage.gpu_percent <= 100:
        return _GPU_USAGE_INVALID
    services, starting = node.services, node.health.state is Status.REGISTERING
    wanted = services.installed & CORE_SERVICES if starting else services.installed
    if not wanted:
        return _NO_SERVICE
    lacking = wanted & ~services.running
    if lacking and (starting or not services.running):
        return _GPU_REQUIRED if no_gpu else _not_running(node, lacking)
    return None if node.languages.any else _NO_LANGUAGE_PAIR


def _not_running(node: Node, lacking: Services) -> Why:
    kinds = ", ".join(
        f"{str(kind.name).lower()} ({node.services.why_not(kind)})" for kind in Services if kind & lacking
    )
    return Why(Reason.NO_RUNNING_SERVICE, f"start the services that do not run: {kinds}")
