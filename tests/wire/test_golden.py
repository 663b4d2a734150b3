"""One golden file per message, as the specifications show it; `golden/DIRECTION/TYPE[.variant].json`.

A golden file is what goes over the wire. A new message needs one before these tests pass again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from linguad.wire import codec, node, public, session

GOLDEN = Path(__file__).parent / "golden"
DIRECTIONS: dict[str, tuple[Any, Any]] = {
    "client": (codec.client_messages, session.ClientMessage),
    "server": (codec.server_messages, session.ServerMessage),
    "node": (codec.node_messages, node.NodeMessage),
    "scheduler": (codec.scheduler_messages, node.SchedulerMessage),
    "app": (codec.stream_messages, public.StreamMessage),
    "gateway": (codec.stream_answers, public.StreamAnswer),
}
FILES = sorted(GOLDEN.glob("*/*.json"))

DROPPED = {
    "node/job_result": ("extra", "audioBuffered"),
    "node/job_result.no_text": ("extra", "pendingEmptyJobs"),
}
"""Members of real nodes that linguad does not keep (node-protocol 2.13)."""


def name_of(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


def without_nulls(value: Any) -> Any:
    """The same without members that are null; what is opaque to linguad keeps them."""
    if isinstance(value, dict):
        return {
            name: member if name in ("sdp", "candidate") else without_nulls(member)
            for name, member in value.items()
            if member is not None
        }
    if isinstance(value, list):
        return [without_nulls(element) for element in value]
    return value


def tags(union: Any) -> set[str]:
    return {member.__struct_config__.tag for member in get_args(union)}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_message_has_a_golden_file(direction: str) -> None:
    files = {file.stem.partition(".")[0] for file in FILES if file.parent.name == direction}
    assert files == tags(DIRECTIONS[direction][1])


def test_no_golden_file_lies_elsewhere() -> None:
    assert {file.parent.name for file in FILES} == set(DIRECTIONS)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_what_is_read_is_written_again(file: Path) -> None:
    messages, _ = DIRECTIONS[file.parent.name]
    text = file.read_text()
    wanted = without_nulls(json.loads(text))
    if name_of(file) in DROPPED:
        parent, member = DROPPED[name_of(file)]
        del wanted[parent][member]
    message = messages.decode(text)
    assert type(message).__struct_config__.tag == file.stem.partition(".")[0]
    assert json.loads(codec.encode(message)) == wanted
    assert messages.decode(codec.encode(message)) == message


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_text_and_bytes_are_read_alike(file: Path) -> None:
    messages, _ = DIRECTIONS[file.parent.name]
    assert messages.decode(file.read_bytes()) == messages.decode(file.read_text())


@pytest.mark.parametrize("kind", ["webrtc_offer", "webrtc_answer", "webrtc_ice"])
def test_signalling_is_relayed_to_the_letter(kind: str) -> None:
    member = "candidate" if kind == "webrtc_ice" else "sdp"
    text = f'{{"type":"{kind}","room_code":"1","to":"s-1","{member}":{{ "a" : [1.0, 1e2, null] }}}}'
    assert f'"{member}":{{ "a" : [1.0, 1e2, null] }}' in codec.encode(codec.client_messages.decode(text))


def test_members_the_protocol_requires_are_written_even_when_they_are_the_default() -> None:
    """An old scheduler refuses a registration whose service has no device (node-protocol 2.12)."""
    services = [node.InstalledService(service_id="a", type="asr", device="gpu", status="error")]
    message = node.NodeRegister(
        installed_services=services,
        capability_by_type=[node.CapabilityByType(type="asr", ready=False)],
        installed_models=[node.InstalledModel(model_id="m", kind="other")],
        hardware=node.HardwareInfo(cpu_cores=0, memory_gb=0, gpus=[node.GpuInfo(name="", memory_gb=0)]),
    )
    assert json.loads(codec.encode(message)) == {
        "type": "node_register",
        "installed_services": [{"service_id": "a", "type": "asr", "device": "gpu", "status": "error"}],
        "capability_by_type": [{"type": "asr", "ready": False}],
        "installed_models": [{"model_id": "m", "kind": "other"}],
        "hardware": {"cpu_cores": 0, "memory_gb": 0, "gpus": [{"name": "", "memory_gb": 0}]},
    }
    failed = node.JobResult(
        job_id="j", node_id="n", success=False, error=node.JobError(code="PROCESSING_ERROR")
    )
    assert json.loads(codec.encode(failed))["error"] == {"code": "PROCESSING_ERROR", "message": ""}


def test_absent_members_are_never_written_as_null() -> None:
    assert codec.encode(session.AudioChunk(session_id="s", seq=0, is_final=False)) == (
        '{"type":"audio_chunk","session_id":"s","seq":0,"is_final":false}'
    )
