"""Which nodes may register, and under which ids (node-protocol 3.2)."""

from __future__ import annotations

from linguad.errors import ErrorCode, WireError
from linguad.wire.node import NodeRegister

MAX_NODE_ID_CHARS = 128


def check(message: NodeRegister, require_gpu: str) -> None:
    """Raise WireError, with the code to answer, for a node that must not register."""
    if message.capability_schema_version not in (None, "2.0"):
        raise WireError(
            ErrorCode.INVALID_CAPABILITY_SCHEMA,
            "capability_schema_version must be 2.0",
            "capability_schema_version",
        )
    if message.hardware and message.hardware.gpus:
        return
    if require_gpu == "always":
        problem = "this server takes only nodes with a GPU"
    elif require_gpu == "declared" and any(
        service.device == "gpu" for service in message.installed_services or ()
    ):
        problem = "this node says that services run on a GPU, and lists none"
    else:
        return
    raise WireError(ErrorCode.NO_GPU_AVAILABLE, problem, "hardware.gpus")


def is_usable_id(node_id: str | None) -> bool:
    """Whether a node may keep the id it gives itself."""
    return bool(node_id and node_id.strip() and len(node_id) <= MAX_NODE_ID_CHARS and node_id.isprintable())
