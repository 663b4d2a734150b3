"""The lenient codec: what is repaired, what is refused and why, and that nothing else can happen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad import metrics
from linguad.errors import ErrorCode, WireError
from linguad.wire import codec, node, session

GOLDEN = [
    json.loads(file.read_text()) for file in sorted((Path(__file__).parent / "golden").glob("*/*.json"))
]
CODECS: list[codec.Codec[Any]] = [
    codec.client_messages,
    codec.server_messages,
    codec.node_messages,
    codec.scheduler_messages,
]


def chunk(**members: Any) -> str:
    return json.dumps({"type": "audio_chunk", "session_id": "s-1", "seq": 1, "is_final": False} | members)


def register(**members: Any) -> str:
    return json.dumps({"type": "node_register"} | members)


@contextmanager
def repairs(link: str, expected: int) -> Iterator[None]:
    """Checks how many members were dropped and counted inside."""
    counter = metrics.REPAIRED.labels(link)
    before = counter._value.get()
    yield
    assert counter._value.get() - before == expected


def refused(messages: codec.Codec[Any], text: str | bytes) -> WireError:
    with pytest.raises(WireError) as caught:
        messages.decode(text)
    assert caught.value.code is ErrorCode.INVALID_MESSAGE
    return caught.value


class TestLenient:
    def test_null_is_absent(self) -> None:
        with repairs("session", 0):
            message = codec.client_messages.decode(chunk(payload=None, client_timestamp_ms=None))
        assert message == session.AudioChunk(session_id="s-1", seq=1, is_final=False)

    def test_null_is_absent_also_where_absent_has_a_meaning(self) -> None:
        """More nulls than repairs are allowed: a null is no error (node-protocol 2)."""
        service = {"service_id": "a", "type": "asr", "device": None, "status": None}
        with repairs("node", 0):
            message = codec.node_messages.decode(register(installed_services=[service] * 20))
        assert isinstance(message, node.NodeRegister)
        assert message.installed_services == [node.InstalledService(service_id="a", type="asr")] * 20

    def test_extra_members_are_ignored(self) -> None:
        with repairs("session", 0):
            message = codec.client_messages.decode(chunk(mood="good", deep={"a": [1, {"b": None}]}))
        assert message == session.AudioChunk(session_id="s-1", seq=1, is_final=False)

    def test_unknown_enum_values_are_kept(self) -> None:
        services = [
            {"service_id": "r", "type": "rust", "device": "tpu", "status": "dreaming"},
            {"service_id": "p", "type": "phonetic", "device": "auto", "status": "running"},
        ]
        with repairs("node", 0):
            message = codec.node_messages.decode(register(platform="haiku", installed_services=services))
        assert isinstance(message, node.NodeRegister)
        assert message.platform == "haiku"
        assert [(s.type, s.device, s.status) for s in message.installed_services or ()] == [
            ("rust", "tpu", "dreaming"),
            ("phonetic", "auto", "running"),
        ]

    @pytest.mark.parametrize("seq", ["5.0", "5", "5e0", '"5"'])
    def test_whole_numbers_may_be_written_otherwise(self, seq: str) -> None:
        message = codec.client_messages.decode(chunk(seq=0).replace('"seq": 0', f'"seq": {seq}'))
        assert message.seq == 5
        assert type(message.seq) is int

    def test_optional_member_of_a_wrong_type_is_dropped_and_counted(self) -> None:
        with repairs("session", 2):
            message = codec.client_messages.decode(chunk(payload=[1], client_timestamp_ms=-4))
        assert message == session.AudioChunk(session_id="s-1", seq=1, is_final=False)

    def test_member_deep_inside_is_dropped_alone(self) -> None:
        text = register(
            hardware={"cpu_cores": "many", "memory_gb": 3, "gpus": [{"name": "X", "memory_gb": 2}]}
        )
        with repairs("node", 1):
            message = codec.node_messages.decode(text)
        assert message.hardware == node.HardwareInfo(memory_gb=3, gpus=[node.GpuInfo(name="X", memory_gb=2)])

    def test_list_element_is_dropped_alone(self) -> None:
        services = [
            {"service_id": "a", "type": "asr"},
            {"service_id": "b"},
            7,
            {"service_id": "c", "type": "nmt"},
        ]
        with repairs("node", 2):
            message = codec.node_messages.decode(register(installed_services=services))
        assert [service.service_id for service in message.installed_services] == ["a", "c"]

    def test_map_with_a_wrong_value_is_dropped_whole(self) -> None:
        text = json.dumps(
            {"type": "job_result", "job_id": "j", "node_id": "n", "success": True, "text_asr": "hello"}
            | {"extra": {"language_probabilities": {"en": 0.9, "zh": "low"}, "emotion": "calm"}}
        )
        with repairs("node", 1):
            message = codec.node_messages.decode(text)
        assert message.text_asr == "hello"
        assert message.extra.language_probabilities is None
        assert message.extra.emotion == "calm"

    def test_object_that_lacks_what_it_needs_is_dropped_whole(self) -> None:
        text = json.dumps(
            {
                "type": "job_result",
                "job_id": "j",
                "node_id": "n",
                "success": True,
                "segments_meta": {"count": 1},
            }
        )
        with repairs("node", 1):
            assert codec.node_messages.decode(text).segments_meta is None

    def test_sixteen_malformed_members_are_forgiven(self) -> None:
        services = [7] * codec.MAX_REPAIRS + [{"service_id": "a", "type": "asr"}]
        with repairs("node", codec.MAX_REPAIRS):
            message = codec.node_messages.decode(register(installed_services=services))
        assert [service.service_id for service in message.installed_services] == ["a"]

    @pytest.mark.parametrize(
        "number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999", "9" * 5000, "-" + "9" * 4300]
    )
    @pytest.mark.parametrize(
        "member",
        [
            '"processing_time_ms":{}',
            '"rerun_count":{}',
            '"mood":{}',
            '"mood":[{{"a":{}}}]',
            '"extra":{{"speech_rate":{}}}',
            '"error":{{"details":{}}}',
        ],
    )
    def test_a_number_that_is_none_is_dropped_alone(self, member: str, number: str) -> None:
        text = (
            '{"type":"job_result","job_id":"j","node_id":"n","success":true,"text_asr":"é","quality_score":1,'
        )
        message = codec.node_messages.decode(text + member.format(number) + "}")
        assert isinstance(message, node.JobResult)
        assert (message.text_asr, message.quality_score, message.processing_time_ms) == ("é", 1, None)
        assert message.rerun_count is None
        assert codec.node_messages.decode(codec.encode(message)) == message

    def test_numbers_that_are_none_are_counted(self) -> None:
        text = '{"type":"node_heartbeat","node_id":"n","mood":[NaN,1e400,2],"timestamp":-Infinity}'
        with repairs("node", 3):
            assert codec.node_messages.decode(text) == node.NodeHeartbeat(node_id="n")

    def test_signalling_is_relayed_as_it_is_after_a_repair(self) -> None:
        text = '{"type":"webrtc_offer","to":null,"room_code":"1","to":"s-1","sdp":{"a":[1.5,null]}}'
        message = codec.client_messages.decode(text)
        assert codec.encode(message) == text.replace('"to":null,', "")

    @pytest.mark.parametrize(
        "text",
        [
            '{"type":"job_result","job_id":"j","node_id":"n","success":true,"reason_codes":[7],"tts_audio":"%s"}',
            '{"type":"job_result","reason_codes":[7],"tts_audio":"%s","job_id":"j","node_id":"n","success":true}',
        ],
    )
    def test_audio_may_be_large_when_something_else_is_malformed(self, text: str) -> None:
        audio = "A" * 2 * codec.MAX_REPAIR_BYTES
        with repairs("node", 1):
            message = codec.node_messages.decode(text.replace("%s", audio))
        assert message == node.JobResult(
            job_id="j", node_id="n", success=True, reason_codes=[], tts_audio=audio
        )

    def test_of_a_member_that_comes_twice_the_last_counts(self) -> None:
        text = register(platform=3).replace(
            "{", '{"installed_services":[{"type":1}],"installed_services":null,'
        )
        with repairs("node", 1):
            message = codec.node_messages.decode(text)
        assert message == node.NodeRegister()


class TestRefused:
    @pytest.mark.parametrize(
        ("members", "field"),
        [
            ({"session_id": 5}, "session_id"),
            ({"session_id": None}, "session_id"),
            ({"seq": -1}, "seq"),
            ({"seq": 1.5}, "seq"),
            ({"seq": "one"}, "seq"),
            ({"is_final": "maybe"}, "is_final"),
            ({"is_final": {}}, "is_final"),
        ],
    )
    def test_identity_member_is_named(self, members: dict[str, Any], field: str) -> None:
        error = refused(codec.client_messages, chunk(**members))
        assert error.field == field
        assert f"member {field}" in str(error)

    @pytest.mark.parametrize(
        ("member", "messages", "text"),
        [
            ("job_id", codec.node_messages, '{"type":"job_result","node_id":"n","success":true}'),
            ("node_id", codec.node_messages, '{"type":"job_result","job_id":"j","success":true}'),
            ("node_id", codec.node_messages, '{"type":"node_heartbeat"}'),
            ("seq", codec.client_messages, '{"type":"audio_chunk","session_id":"s","is_final":true}'),
            ("sdp", codec.client_messages, '{"type":"webrtc_offer","room_code":"1","to":"s"}'),
        ],
    )
    def test_missing_identity_member_is_named(
        self, member: str, messages: codec.Codec[Any], text: str
    ) -> None:
        error = refused(messages, text)
        assert error.field == member
        assert str(error) == f"member {member} is missing"

    def test_the_reason_tells_what_was_wrong(self) -> None:
        text = json.dumps(json.loads((Path(__file__).parent / "golden/client/utterance.json").read_text()))
        error = refused(codec.client_messages, text.replace("16000", "-1"))
        assert str(error) == "member sample_rate: Expected `int` >= 0"

    @pytest.mark.parametrize("kind", ["audio_chunks", "", "translation_result", "x" * 500])
    def test_unknown_type(self, kind: str) -> None:
        error = refused(codec.client_messages, json.dumps({"type": kind}))
        assert error.field == "type"
        assert str(error) == f"unknown message type {kind[:64]!r}"

    @pytest.mark.parametrize(
        "text", ['{"session_id":"s"}', "{}", '{"type":null}', '{"type":5}', '{"type":["a"]}']
    )
    def test_no_type(self, text: str) -> None:
        error = refused(codec.client_messages, text)
        assert error.field == "type"
        assert str(error) == "member type is missing or not a string"

    @pytest.mark.parametrize("text", ["null", "5", '"audio_chunk"', "[]", "[{}]", "true"])
    def test_not_an_object(self, text: str) -> None:
        assert str(refused(codec.client_messages, text)) == "a message is one JSON object"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "not JSON",
            "{",
            chunk()[:-1],
            chunk() + "}",
            '{"type":"audio_chunk","session_id":"s","seq":-1,"is_final":true, garbage',
            '{"type":"audio_chunk","session_id":"\\ud800","seq":1,"is_final":true}',
            '{"type":"audio_chunk","session_id":"\ud800","seq":1,"is_final":true}',
            b"\xff\xfe\x00",
            b'{"type":"audio_chunk","session_id":"\xff","seq":1,"is_final":true}',
            '{"type":"audio_chunk","session_id":"s","seq":1e999,"is_final":true}',
            '{"type":"audio_chunk","session_id":"s","seq":NaN,"is_final":true}',
            '{"type":"audio_chunk","session_id":"s","seq":1,"is_final":true,"a":NaN,"b":"\\ud800"}',
            '{"type":"audio_chunk","session_id":"s","seq":1,"is_final":true,"a":NaN,"b":-}',
            '\ufeff{"type":"audio_chunk","session_id":"s","seq":1,"is_final":true,"a":NaN}',
        ],
    )
    def test_not_json(self, text: str | bytes) -> None:
        assert str(refused(codec.client_messages, text)).startswith("not valid JSON: ")

    @pytest.mark.parametrize(
        "shape", ["[", '{"a":', '{"type":"audio_chunk","x":', '{"type":"audio_chunk","seq":[']
    )
    def test_deep_nesting(self, shape: str) -> None:
        refused(codec.client_messages, shape * 100_000)

    def test_deep_nesting_in_a_member_nobody_reads(self) -> None:
        deep = "[" * 50_000 + "]" * 50_000
        refused(codec.client_messages, chunk(extra=0).replace('"extra": 0', f'"extra": {deep}'))

    def test_more_than_sixteen_malformed_members(self) -> None:
        services = [7] * (codec.MAX_REPAIRS + 1)
        with repairs("node", codec.MAX_REPAIRS + 1):
            error = refused(codec.node_messages, register(installed_services=services))
        assert str(error) == "more than 16 members of node_register are malformed"

    @pytest.mark.parametrize(
        "bulk",
        ['"unread":"%s"', '"unread":[0,"%s"]', '"tts_audio":["%s"]', '"tts_audio":"%s","tts_audio":""'],
    )
    def test_large_messages_are_not_repaired(self, bulk: str) -> None:
        bulk = bulk.replace("%s", "A" * codec.MAX_REPAIR_BYTES)
        text = '{"type":"job_result","reason_codes":7,"job_id":"j","node_id":"n","success":true,%s}'
        with repairs("node", 0):
            error = refused(codec.node_messages, text.replace("%s", bulk))
        assert error.field == "reason_codes"
        assert str(error) == (
            "Expected `array | null`, got `int` - at `$.reason_codes`; "
            "a message above 256 KiB is not repaired"
        )

    def test_characters_of_audio_pay_for_themselves_only(self) -> None:
        """A character may be several bytes: the audio must not make room for others."""
        size = codec.MAX_REPAIR_BYTES
        text = json.dumps(
            {"type": "job_result", "tts_audio": "é" * size, "x": "A" * size}, ensure_ascii=False
        )
        assert "not repaired" in str(refused(codec.node_messages, text))

    def test_of_a_large_message_only_the_start_is_quoted(self) -> None:
        error = refused(codec.node_messages, json.dumps({"type": "x" * codec.MAX_REPAIR_BYTES}))
        assert len(str(error)) < 2 * codec.MAX_QUOTE_CHARS

    @pytest.mark.parametrize("kind", ["webrtc_offer", "webrtc_answer"])
    def test_signalling_that_lacks_its_receiver_is_told_so(self, kind: str) -> None:
        error = refused(codec.client_messages, json.dumps({"type": kind, "room_code": "1", "sdp": {}}))
        assert (error.field, str(error)) == ("to", "member to is missing")

    def test_refusals_are_counted(self) -> None:
        counter = metrics.REJECTED.labels("node", "INVALID_MESSAGE")
        before = counter._value.get()
        refused(codec.node_messages, "{")
        refused(codec.node_messages, '{"type":"node_heartbeat","node_id":NaN}')
        assert counter._value.get() == before + 2


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**4299, -(10**4299), 2**53, -(2**53), 1e308, "9" * 4300, "x" * 257, "NaN", "inf"])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def slots(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place inside a JSON value that holds another one, as (container, key)."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in inner:
        yield value, key
        yield from slots(member)


@st.composite
def damaged_messages(draw: st.DrawFn) -> str:
    """A message of the specification with some of its members replaced by anything."""
    message = json.loads(json.dumps(draw(st.sampled_from(GOLDEN))))
    for _ in range(draw(st.integers(1, 4))):
        container, key = draw(st.sampled_from(list(slots(message))))
        container[key] = draw(json_values)
    return json.dumps(message)


@st.composite
def damaged_bytes(draw: st.DrawFn) -> bytes:
    """The bytes of a message with a stretch of them replaced by anything."""
    data = json.dumps(draw(st.sampled_from(GOLDEN))).encode()
    start, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
    return data[:start] + draw(st.binary(max_size=20)) + data[end:]


def message_or_none(messages: codec.Codec[Any], frame: str | bytes) -> Any:
    try:
        return messages.decode(frame)
    except WireError:
        return None


@given(st.sampled_from(CODECS), damaged_messages() | json_values.map(json.dumps))
def test_any_json_is_a_message_or_refused(messages: codec.Codec[Any], text: str) -> None:
    message = message_or_none(messages, text)
    if message is not None:
        assert messages.decode(codec.encode(message)) == message


@given(st.sampled_from(CODECS), st.binary(max_size=200) | damaged_bytes())
def test_any_bytes_are_a_message_or_refused(messages: codec.Codec[Any], frame: bytes) -> None:
    message_or_none(messages, frame)


@given(st.sampled_from(CODECS), st.text(max_size=100))
def test_any_text_is_a_message_or_refused(messages: codec.Codec[Any], frame: str) -> None:
    message_or_none(messages, frame)
