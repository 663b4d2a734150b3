"""Why a node gets no work: one reason for each way to be unwell, and none for a node that works."""

from __future__ import annotations

from typing import Any

import pytest
from core.support import heartbeat, languages, register, services

from linguad.core.health import Status
from linguad.core.node import Node
from linguad.core.rules import NodeRules, Override
from linguad.core.standing import Reason, Why, why_idle
from linguad.wire.node import GpuInfo, HardwareInfo, HeartbeatAck, ResourceUsage

GPU = HardwareInfo(cpu_cores=4, memory_gb=8, gpus=[GpuInfo(name="X", memory_gb=8)])
NONE_LISTED: dict[str, Any] = {"installed_services": [], "capability_by_type": []}


def node(rules: NodeRules | None = None, **members: Any) -> Node:
    made = Node("n", rules or NodeRules(), 0.0)
    made.registered(register("n", **members), 1, 0.0)
    return made


def beaten(made: Node, now: float = 1.0, **members: Any) -> Why | None:
    """Why it gets no work after a heartbeat."""
    made.heartbeat(heartbeat("n", **members), now)
    return why_idle(made)


def reason(why: Why | None) -> Reason | None:
    return why and why.reason


def test_a_healthy_node_has_none() -> None:
    made = node()
    assert reason(why_idle(made)) is Reason.REGISTERING
    assert beaten(made) is None


@pytest.mark.parametrize(
    ("rules", "said", "expected"),
    [
        ({}, NONE_LISTED, Reason.NO_RUNNING_SERVICE),
        ({}, {"installed_services": services("semantic", "tone")}, Reason.NO_RUNNING_SERVICE),
        ({}, {"installed_services": services("asr", status="stopped")}, Reason.NO_RUNNING_SERVICE),
        ({}, {"language_capabilities": languages()}, Reason.NO_LANGUAGE_PAIR),
        ({}, {"resource_usage": ResourceUsage(gpu_percent=101)}, Reason.GPU_USAGE_INVALID),
        ({"require_gpu": "always"}, {}, Reason.GPU_REQUIRED),
        ({"require_gpu": "declared"}, {}, Reason.GPU_REQUIRED),
        ({"health_check_count": 2}, {}, Reason.REGISTERING),
    ],
)
def test_every_ailment_has_its_reason(rules: dict[str, Any], said: dict[str, Any], expected: Reason) -> None:
    assert reason(beaten(node(NodeRules(**rules)), **said)) is expected


def test_services_that_do_not_run_are_named_with_the_reason() -> None:
    why = beaten(node(), installed_services=[*services("asr"), *services("nmt", "tts", status="stopped")])
    assert why is not None
    assert why.cure.endswith("nmt (no_running_impl), tts (no_running_impl)")


def test_a_ready_node_may_run_fewer_services_but_not_none() -> None:
    made = node()
    beaten(made)
    assert beaten(made, installed_services=services("asr")) is None
    assert (
        reason(beaten(made, installed_services=services("asr", status="error"))) is Reason.NO_RUNNING_SERVICE
    )


def test_failed_jobs_are_told_with_the_time_that_is_left() -> None:
    rules = NodeRules()
    made = node(rules)
    beaten(made)
    for _ in range(rules.failure_count):
        made.health.job_failed(1.0, 1.0)
    assert made.status is Status.DEGRADED
    assert beaten(made, 2.0) is None, "on probation"
    made.health.job_failed(2.0, 2.0)
    why = beaten(made, 3.0)
    assert why is not None
    assert why.reason is Reason.DEGRADED
    assert f" {rules.quarantine_s - 1:.0f} s " in why.cure


def test_a_node_that_is_being_drained_is_told_just_that() -> None:
    made = node()
    made.override = Override(drain=True)
    assert reason(beaten(made, **NONE_LISTED)) is Reason.DRAINING


def test_a_node_that_takes_only_paired_sessions_is_told_so() -> None:
    assert reason(beaten(node(accept_public_jobs=False))) is Reason.NOT_PUBLIC


def test_every_reason_is_in_the_description_of_the_message() -> None:
    words = set((HeartbeatAck.__doc__ or "").replace(",", " ").replace(".", " ").split())
    assert {reason.value for reason in Reason} - words == set()
