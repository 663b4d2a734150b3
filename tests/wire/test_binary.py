"""Binary audio frames: the bytes of session-protocol 1.7.3."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad.errors import WireError
from linguad.wire import binary
from linguad.wire.binary import AudioFrame

NOW_MS = 1_769_900_000_000

frames = st.builds(
    AudioFrame,
    session_id=st.text(max_size=60),
    seq=st.integers(0, 2**32 - 1),
    audio=st.binary(max_size=200),
    is_final=st.booleans(),
    client_timestamp_ms=st.integers(NOW_MS - 2**31 + 1, NOW_MS + 2**31 - 1),
)


def test_audio_as_web_clients_send_it() -> None:
    head = bytes([1, 4]) + struct.pack("<II", 41, NOW_MS % 2**32) + bytes([0, 0])
    frame = binary.decode(head + b"s-7C" + b"\x01\x00a", NOW_MS)
    assert frame == AudioFrame("s-7C", 41, b"\x01\x00a", False, NOW_MS)


def test_final_as_web_clients_send_it() -> None:
    frame = binary.decode(bytes([2, 4]) + struct.pack("<II", 42, NOW_MS % 2**32) + b"s-7C", NOW_MS)
    assert frame == AudioFrame("s-7C", 42, b"", True, NOW_MS)


@pytest.mark.parametrize("kind", [binary.PING, binary.PONG])
def test_reserved_frames_mean_nothing(kind: int) -> None:
    assert binary.decode(bytes([kind]), NOW_MS) is None


@pytest.mark.parametrize(
    ("frame", "field"),
    [
        (b"", "type"),
        (b"\x07" + bytes(20), "type"),
        (bytes([1, 0]), "session_id"),
        (bytes([1, 9]) + bytes(10) + b"s-7C", "session_id"),
        (bytes([2, 2]) + bytes(8) + b"\xff\xfe", "session_id"),
    ],
)
def test_what_is_refused_names_the_member(frame: bytes, field: str) -> None:
    with pytest.raises(WireError) as refused:
        binary.decode(frame, NOW_MS)
    assert refused.value.field == field


@given(frames)
def test_what_is_written_is_read_again(frame: AudioFrame) -> None:
    assert binary.decode(binary.encode(frame), NOW_MS) == frame


@given(st.binary(max_size=300))
def test_any_bytes_are_a_frame_or_a_refusal(data: bytes) -> None:
    with suppress(WireError):
        frame = binary.decode(data, NOW_MS)
        assert frame is None or abs(frame.client_timestamp_ms - NOW_MS) <= 2**31
