"""Forms as they come: any cutting gives the same form, and nothing that is too much is kept.

Rules: the reader is fed by hand; bodies over sockets are in test_uploads.py.
"""

from __future__ import annotations

import json
import tracemalloc
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from linguad.config.gateway import Gateway
from linguad.core.tenant import Tenant
from linguad.gateway.speech.form import (
    BLOCK_BYTES,
    Form,
    MultipartReader,
    UploadLimits,
    read_form,
    upload_limits,
)
from linguad.web.problems import Problem

BOUNDARY = "b0undary"
NAMES = ("src_lang", "tgt_lang", "features")
Part = tuple[str, bytes]


def part(name: str, value: bytes, *more: str) -> Part:
    head = [f'Content-Disposition: form-data; name="{name}"{"".join(more[:1])}', *more[1:]]
    return "\r\n".join(head), value


def body_of(parts: Iterable[Part], boundary: str = BOUNDARY) -> bytes:
    lines = b"".join(
        b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary.encode(), head.encode(), value) for head, value in parts
    )
    return lines + b"--%b--\r\n" % boundary.encode()


def read(body: bytes, cuts: Iterable[int] = (), boundary: str = BOUNDARY) -> Form:
    reader = MultipartReader(boundary, NAMES)
    ends = [*sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for start, end in zip([0, *ends], ends, strict=False):
        reader.feed(body[start:end])
    return reader.finish()


def outcome(body: bytes, cuts: Iterable[int]) -> Form | str:
    try:
        return read(body, cuts)
    except Problem as problem:
        return problem.code


def refusal(body: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        read(body)
    return caught.value


SENT = [
    part("tgt_lang", b"es"),
    part(
        "audio", b"\x00\xff--b0undary\r\n", '; filename="a.wav"', "Content-Type: text/html; charset=nonsense"
    ),
    part("nobody_wants_this", b"x" * 100_000),
    part("src_lang", "русский".encode()),
]
EXPECTED = Form({"tgt_lang": "es", "src_lang": "русский"}, b"\x00\xff--b0undary\r\n")


def test_a_form_is_read() -> None:
    assert read(body_of(SENT)) == EXPECTED


def test_the_order_does_not_count() -> None:
    assert read(body_of(reversed(SENT))) == EXPECTED


def test_the_last_of_repeated_parts_counts() -> None:
    form = read(body_of([part("src_lang", b"a"), part("audio", b"1"), *SENT, part("tgt_lang", b"fr")]))
    assert form == Form({"tgt_lang": "fr", "src_lang": "русский"}, EXPECTED.audio)


def test_a_field_may_be_a_file_and_the_audio_a_field() -> None:
    parts = [part("src_lang", b"en", '; filename="l.txt"'), part("audio", b"plain")]
    assert read(body_of(parts)) == Form({"src_lang": "en"}, b"plain")


def test_empty_parts_are_empty() -> None:
    assert read(body_of([part("src_lang", b""), part("audio", b"")])) == Form({"src_lang": ""}, b"")
    assert read(body_of([])) == Form({}, b"")


def test_anything_may_stand_before_and_behind() -> None:
    assert read(b"preamble\r\n" + body_of(SENT) + b"epilogue") == EXPECTED


CUTS = st.lists(st.integers(0, 300_000), max_size=12)


@given(
    parts=st.lists(
        st.tuples(
            st.sampled_from([*NAMES, "audio", "other", ""]),
            st.binary(max_size=60)
            | st.integers(BLOCK_BYTES - 200, BLOCK_BYTES).map(bytes)
            | st.sampled_from([b"\r\n--b0undar", b"\r\n--", b"\r", b"--b0undary--"]),
        ),
        max_size=6,
    ),
    cuts=CUTS,
)
def test_any_cutting_gives_the_same_form(parts: list[tuple[str, bytes]], cuts: list[int]) -> None:
    body = body_of([part(name, value) for name, value in parts])
    assert outcome(body, cuts) == outcome(body, []) == outcome(body, range(0, len(body), 7))


MANGLED = body_of([part("src_lang", b"en"), part("audio", b"12345"), part("tgt_lang", b"\r\nzh")])


@settings(max_examples=300)
@given(
    changes=st.lists(
        st.tuples(
            st.integers(0, len(MANGLED)),
            st.integers(0, 3),
            st.sampled_from([b"", b"\r", b"\n", b"\r\n", b"--", b"\r\n--b0undary", b":", b"\xff", b" "]),
        ),
        min_size=1,
        max_size=3,
    ),
    cuts=st.lists(st.integers(0, 500), max_size=12),
)
@example([(0, 0, b"junk in front, of some length, then ")], [20])
@example([(60, 0, b"\n")], [62])
def test_any_cutting_of_a_broken_form_ends_the_same(
    changes: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    body = MANGLED
    for position, removed, inserted in changes:
        body = body[:position] + inserted + body[position + removed :]
    assert outcome(body, cuts) == outcome(body, []) == outcome(body, range(len(body)))


@given(body=st.binary(max_size=300), cuts=CUTS)
def test_any_bytes_are_a_form_or_malformed(body: bytes, cuts: list[int]) -> None:
    for sent in (body, f"--{BOUNDARY}\r\n".encode() + body):
        assert outcome(sent, cuts) in ("malformed_multipart", "invalid_field") or read(sent)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--",
        b"--b0undary",
        body_of(SENT)[:-4],
        body_of(SENT)[:-60],
        b"preamble" + body_of(SENT),
        body_of(SENT, "other"),
        body_of([("Content-Type: text/plain", b"x")]),
        body_of([('Content-Disposition: attachment; name="audio"', b"x")]),
        body_of([part("audio", b"x", "", "Content-Length: 2")]),
        body_of([part("audio", b"x", "", *[f"X-{number}: 1" for number in range(10)])]),
        body_of([part("audio", b"x", "", "X-Long: " + "x" * 5000)]),
        body_of([part("a" * 100_000, b"x")]),
        body_of([part("audio", b"x", "", "No colon")]),
        body_of([part("audio", b"x", "", "X-\xe9: 1")]),
        b"--b0undary\r\n" + b"x" * 100_000,
        body_of([part("other", b"")] * 33),
        body_of([part("other", b"")] * 10_000),
    ],
    ids=range(18),
)
def test_what_is_no_form_is_malformed(body: bytes) -> None:
    problem = refusal(body)
    assert (problem.status, problem.code) == (400, "malformed_multipart")
    assert problem.message.startswith("The form cannot be read: ")


def test_32_parts_are_allowed() -> None:
    assert read(body_of([part("other", b"")] * 31 + [part("src_lang", b"en")])).fields == {"src_lang": "en"}
    assert "more than 32 parts" in refusal(body_of([part("other", b"")] * 33)).message


@pytest.mark.parametrize("boundary", ["", "b" * 71, "b\r\nb", "bé"])
def test_a_bad_boundary_is_malformed(boundary: str) -> None:
    with pytest.raises(Problem, match="names no boundary") as caught:
        MultipartReader(boundary, NAMES)
    assert caught.value.code == "malformed_multipart"


def test_fields_have_4_kib_at_most() -> None:
    assert len(read(body_of([part("features", b"x" * 4096)])).fields["features"]) == 4096
    problem = refusal(body_of([part("features", b"x" * 4097)]))
    assert (problem.status, problem.code) == (400, "invalid_field")
    assert problem.details == [{"field": "features", "reason": "may have 4096 bytes at most"}]


def test_fields_are_utf_8() -> None:
    problem = refusal(body_of([part("features", b"\xff")]))
    assert (problem.status, problem.code) == (400, "invalid_field")
    assert problem.details == [{"field": "features", "reason": "is not UTF-8"}]


def test_what_nobody_wants_takes_no_memory() -> None:
    reader = MultipartReader(BOUNDARY, NAMES)
    reader.feed(body_of([part("other", b"x")])[: -len("\r\n--b0undary--\r\n")])
    piece = bytes(65536)
    tracemalloc.start()
    for _ in range(300):
        reader.feed(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for piece in parts:
        await trio.lowlevel.checkpoint()
        yield piece


async def read_body(
    *parts: bytes,
    content_type: str | None = f"multipart/form-data; boundary={BOUNDARY}",
    length: int | None = None,
    max_bytes: int = 1_000_000,
) -> Form:
    source = pieces(*parts)
    try:
        return await read_form(source, content_type, length, names=NAMES, max_bytes=max_bytes, seconds=10)
    finally:
        await source.aclose()


async def refused(*parts: bytes, **options: object) -> Problem:
    with pytest.raises(Problem) as caught:
        await read_body(*parts, **options)  # type: ignore[arg-type]
    return caught.value


class TestBody:
    @pytest.mark.parametrize(
        "content_type",
        [
            "multipart/form-data; boundary=b0undary",
            'Multipart/Form-Data; charset=utf-8; boundary="b0undary"',
            "multipart/form-data;boundary=b0undary; x=y",
        ],
    )
    async def test_multipart(self, content_type: str) -> None:
        body = body_of(SENT)
        assert await read_body(body[:50], b"", body[50:], content_type=content_type) == EXPECTED

    @pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary="])
    async def test_a_missing_boundary_is_malformed(self, content_type: str) -> None:
        problem = await refused(body_of(SENT), content_type=content_type)
        assert (problem.status, problem.code) == (400, "malformed_multipart")

    @pytest.mark.parametrize(
        "content_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/mixed"]
    )
    async def test_other_types_are_415(self, content_type: str | None) -> None:
        problem = await refused(body_of(SENT), content_type=content_type)
        assert (problem.status, problem.code) == (415, "unsupported_media_type")

    async def test_a_length_that_is_too_large_is_refused_unread(self) -> None:
        problem = await refused(length=1001, max_bytes=1000)
        assert (problem.status, problem.code, problem.retryable) == (413, "payload_too_large", False)
        assert "1000 bytes" in problem.message

    async def test_a_body_that_grows_too_large_is_refused(self) -> None:
        body = body_of(SENT)
        assert await read_body(body, max_bytes=len(body), length=len(body)) == EXPECTED
        assert (await refused(body, max_bytes=len(body) - 1)).code == "payload_too_large"

    async def test_slow_bodies_are_cut(self, autojump_clock: trio.testing.MockClock) -> None:
        async def drip() -> AsyncIterator[bytes]:
            for piece in body_of(SENT):
                await trio.sleep(1)
                yield bytes([piece])

        began = trio.current_time()
        source = drip()
        content_type = f"multipart/form-data; boundary={BOUNDARY}"
        with pytest.raises(Problem) as caught:
            await read_form(source, content_type, None, names=NAMES, max_bytes=10**6, seconds=30)
        await source.aclose()
        assert (caught.value.status, caught.value.code) == (408, "request_timeout")
        assert trio.current_time() - began == 30


class TestJson:
    async def read(self, body: object) -> Form:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await read_body(data[:10], data[10:], content_type="application/json; charset=utf-8")

    async def refused(self, body: object) -> Problem:
        with pytest.raises(Problem) as caught:
            await self.read(body)
        return caught.value

    async def test_the_same_names_have_json_values(self) -> None:
        sent = {
            "src_lang": "русский",
            "tgt_lang": 16000,
            "features": {"emotion_detection": True},
            "audio": b64encode(b"\x00\xff").decode(),
            "other": [1, 2],
        }
        form = await self.read(sent)
        assert form.audio == b"\x00\xff"
        assert form.fields["src_lang"] == "русский"
        assert form.fields["tgt_lang"] == "16000"
        assert json.loads(form.fields["features"]) == {"emotion_detection": True}
        assert len(form.fields) == 3

    async def test_null_is_absent(self) -> None:
        assert await self.read({"src_lang": None, "audio": None}) == Form({}, b"")
        assert await self.read({}) == Form({}, b"")

    @pytest.mark.parametrize(
        "body",
        [b"", b"[]", b"null", b"{", b'{"src_lang":}', b"\xff", b'{"other":' + b"[" * 100_000],
        ids=range(7),
    )
    async def test_what_is_no_object_is_invalid(self, body: bytes) -> None:
        problem = await self.refused(body)
        assert (problem.status, problem.code) == (400, "invalid_json")

    @pytest.mark.parametrize(
        ("body", "field", "reason"),
        [
            (b'{"src_lang":"\xff"}', "src_lang", "is not UTF-8"),
            (b'{"features":{"\xff":1}}', "features", "is not UTF-8"),
            (b'{"features":"' + b"x" * 4095 + b'"}', "features", "may have 4096 bytes at most"),
            (b'{"audio":"*"}', "audio", "is not base64"),
            (b'{"audio":"AAA"}', "audio", "is not base64"),
            (b'{"audio":"\xff"}', "audio", "is not base64"),
            (b'{"audio":1}', "audio", "is not base64"),
        ],
    )
    async def test_bad_values_are_named(self, body: bytes, field: str, reason: str) -> None:
        problem = await self.refused(body)
        assert (problem.status, problem.code) == (400, "invalid_field")
        assert isinstance(problem.details, list)
        assert problem.details[0]["field"] == field
        assert problem.details[0]["reason"].startswith(reason)

    async def test_names_nobody_wants_take_no_memory(self) -> None:
        body = b'{"' + b'":0,"'.join(b"%d" % number for number in range(100_000)) + b'":0}'
        reader = read_body(body, content_type="application/json", max_bytes=10**7)
        tracemalloc.start()
        assert await reader == Form({}, b"")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 * len(body)


def test_a_tenant_may_have_its_own_size() -> None:
    tenant = Tenant(id="t", name="t", created_at=0, updated_at=0)
    usual = UploadLimits(max_bytes=10 * 1024 * 1024, seconds=30, max_audio_seconds=120)
    assert upload_limits(Gateway(), tenant) == usual
    larger = Tenant(id="t", name="t", created_at=0, updated_at=0, max_upload_bytes=20_000_000)
    assert upload_limits(Gateway(), larger).max_bytes == 20_000_000
