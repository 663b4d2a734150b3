"""Every number, short string, list and map of the wire has a limit, and what is beyond costs only itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import inspect as types

from linguad.errors import WireError
from linguad.wire import codec, node, session

UNIONS = (session.ClientMessage, session.ServerMessage, node.NodeMessage, node.SchedulerMessage)
FREE_TEXT = {
    *("text", "text_asr", "text_translated", "context_text", "message", "hint", "hint_en", "hint_zh"),
    *("last_error", "tts_audio", "audio", "payload"),
}


def members(kind: types.Type, path: str) -> Iterator[tuple[str, types.Type]]:
    """Every simple value, list and map inside a message, with the names on the way to it."""
    if isinstance(kind, types.UnionType):
        for choice in kind.types:
            yield from members(choice, path)
        return
    if isinstance(kind, types.StructType):
        for member in kind.fields:
            yield from members(member.type, f"{path}.{member.name}")
        return
    yield path, kind
    if isinstance(kind, types.ListType):
        yield from members(kind.item_type, f"{path}[]")
    if isinstance(kind, types.DictType):
        yield from members(kind.key_type, f"{path}{{key}}")
        yield from members(kind.value_type, f"{path}{{}}")


MEMBERS = [
    (path, kind)
    for union in UNIONS
    for info in types.multi_type_info(union.__args__)
    if isinstance(info, types.StructType)
    for path, kind in members(info, str(info.tag))
]


def test_every_number_has_a_smallest_and_a_largest_value() -> None:
    numbers = [(path, kind) for path, kind in MEMBERS if isinstance(kind, types.IntType | types.FloatType)]
    assert len(numbers) > 50
    assert [path for path, kind in numbers if kind.ge is None or kind.le is None] == []


def test_every_list_and_map_has_a_longest() -> None:
    found = [(path, kind) for path, kind in MEMBERS if isinstance(kind, types.ListType | types.DictType)]
    assert len(found) > 20
    assert [path for path, kind in found if kind.max_length is None] == []


def test_every_string_but_free_text_has_a_longest() -> None:
    unlimited = [k for k in MEMBERS if isinstance(k[1], types.StrType) and k[1].max_length is None]
    assert {path.rpartition(".")[2] for path, _ in unlimited} == FREE_TEXT


HUGE = ["9" * 4300, "-" + "9" * 4299, "9" * 20, str(2**53), str(-(2**53)), "1e300", f'"{"9" * 4300}"']


@pytest.mark.parametrize("number", HUGE)
def test_an_integer_that_is_too_large_is_no_sequence_number(number: str) -> None:
    with pytest.raises(WireError) as caught:
        codec.client_messages.decode(
            f'{{"type":"audio_chunk","session_id":"s","seq":{number},"is_final":true}}'
        )
    assert caught.value.field == "seq"


@pytest.mark.parametrize("number", [*HUGE, '"NaN"', '"-inf"', '"Infinity"'])
def test_an_optional_number_that_is_no_number_is_dropped_alone(number: str) -> None:
    text = '{"type":"job_result","job_id":"j","node_id":"n","success":true,"text_asr":"a"'
    for member in ("processing_time_ms", "quality_score", "utterance_index", "node_completed_at_ms"):
        result = codec.node_messages.decode(f'{text},"{member}":{number}}}')
        assert result == node.JobResult(job_id="j", node_id="n", success=True, text_asr="a")


def heartbeat(**given: Any) -> Any:
    return codec.node_messages.decode(json.dumps({"type": "node_heartbeat", "node_id": "n"} | given))


def test_a_list_that_is_too_long_is_dropped_whole() -> None:
    known = node.NodeLanguageCapabilities(tts_languages=["en"])
    message = heartbeat(language_capabilities={"asr_languages": ["a"] * 1001, "tts_languages": ["en"]})
    assert message == node.NodeHeartbeat(node_id="n", language_capabilities=known)


def test_a_string_that_is_too_long_is_dropped_with_what_it_identifies() -> None:
    services = [
        {"service_id": "a", "type": "asr", "engine": "e" * 257},
        {"service_id": "b" * 257, "type": "asr"},
    ]
    assert heartbeat(installed_services=services).installed_services == [
        node.InstalledService(service_id="a", type="asr")
    ]
    with pytest.raises(WireError) as caught:
        heartbeat(node_id="n" * 257)
    assert caught.value.field == "node_id"


def test_a_map_with_a_name_that_is_too_long_is_dropped_whole() -> None:
    metrics = {"serviceEfficiencies": {"asr": 1.0, "x" * 257: 2.0}}
    assert heartbeat(processing_metrics=metrics).processing_metrics == node.ProcessingMetrics()


def test_free_text_may_be_long() -> None:
    service = {"service_id": "a", "type": "asr", "last_error": "why " * 1000}
    assert heartbeat(installed_services=[service]).installed_services[0].last_error == "why " * 1000
