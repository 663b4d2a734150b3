"""The compiled loops and their twin do the same."""

from __future__ import annotations

import importlib
from binascii import a2b_base64, b2a_base64
from types import ModuleType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from linguad import _bytes_py as twin
from linguad.octets import from_base64
from linguad.wire import opus

compiled = importlib.import_module("linguad._bytes")
both = pytest.mark.parametrize("loops", [compiled, twin])


@given(st.binary(max_size=200) | st.lists(st.binary(min_size=1, max_size=9)).map(opus.join))
@example(b"\xff\xff" + bytes(0xFFFF))
def test_walks_are_equal(payload: bytes) -> None:
    for limit in (1, 9, 4096):
        for most in (-1, 0, 1, 3, 2**62):
            assert compiled.walk(payload, limit, most) == twin.walk(payload, limit, most)


@given(st.binary(max_size=70), st.binary(min_size=4, max_size=4))
def test_masks_are_equal_and_their_own_inverse(payload: bytes, mask: bytes) -> None:
    masked = compiled.unmask(payload, mask)
    assert masked == twin.unmask(payload, mask)
    assert masked == bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    assert compiled.unmask(bytearray(masked), memoryview(mask)) == payload


@both
def test_other_masks_are_refused(loops: ModuleType) -> None:
    for mask in (b"", b"123", b"12345"):
        with pytest.raises(ValueError, match="four"):
            loops.unmask(b"payload", mask)


@given(
    st.binary(max_size=50).map(lambda data: b2a_base64(data, newline=False).decode()) | st.text(max_size=9)
)
@example("QQ==")
@example("QUJD=")
@example("QQ=")
@example("Q Q==")
@example("é")
def test_base64_is_read_as_the_strict_library_does(text: str) -> None:
    try:
        expected = a2b_base64(text, strict_mode=True)
    except ValueError:
        with pytest.raises(ValueError):
            from_base64(text)
    else:
        assert from_base64(text) == expected
