"""The pure pieces of the model manager: names, answers, retries, what the hub says, progress."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from linguad.models.answer import Ladder, Step, content_range, judge
from linguad.models.catalog import ListedModel, canonical, from_manifest, newest, parse_checksums
from linguad.models.errors import HubProtocolError, InvalidIdentifierError
from linguad.models.hub import Hub, hub_url
from linguad.models.names import (
    MAX_STEM_BYTES,
    Key,
    by_age,
    check_id,
    check_path,
    check_version,
    part_name,
    stem,
)
from linguad.models.progress import Event, Meter, Progress, State


class TestNames:
    @given(st.text(max_size=40))
    def test_what_passes_stays_in_its_directory(self, text: str) -> None:
        for check in (check_id, check_version, check_path):
            try:
                name = check(text)
            except InvalidIdentifierError:
                continue
            path = (Path("/root") / name).parts
            assert path[:2] == ("/", "root")
            assert ".." not in path
            assert len(path) == 3 + name.count("/")

    @pytest.mark.parametrize("path", ["a", "a/b.c", "..foo", "a b", "ünï", "a" * 255, "/".join("a" * 16)])
    def test_harmless_paths(self, path: str) -> None:
        assert check_path(path) == path

    @pytest.mark.parametrize("name", ["m", "opus-mt.en_es", "a..b", "9"])
    def test_ids(self, name: str) -> None:
        assert check_id(name) == name

    def test_names_on_disk(self) -> None:
        one = Key("m", "1.0.0")
        assert stem(one) == "m_1.0.0"
        assert part_name(stem(one), "model.bin") == "m_1.0.0.model.bin.part"
        assert part_name(stem(one), "a/b c") == "m_1.0.0.a%2Fb%20c.part"
        assert stem(Key("a_b", "1")) == stem(Key("a", "b_1"))
        assert stem(Key("a_b", "1"), apart=True) != stem(Key("a", "b_1"), apart=True)

    @given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1), min_size=1))
    def test_names_on_disk_are_short_and_different(self, segments: list[str]) -> None:
        path = "/".join(segments)
        name = part_name("m_1", path)
        assert len(name.encode()) <= MAX_STEM_BYTES + 40
        assert "/" not in name
        assert part_name("m_1", path + "x") != name

    def test_versions_are_ordered_as_semver(self) -> None:
        ordered = ["beta", "v2", "v10", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-rc.2", "1.0.0-rc.10", "1.0.0"]
        ordered += ["1.9.0", "1.10.0"]
        mixed = ordered[::-1]
        assert sorted(mixed, key=by_age) == ordered
        assert newest(["2.0.0-rc.1", "1.9.0", "1.10.0"]) == "1.10.0"
        assert newest([]) is None

    @given(
        st.lists(st.from_regex(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,12}", fullmatch=True), min_size=2, max_size=9)
    )
    def test_any_versions_can_be_ordered(self, versions: list[str]) -> None:
        assert len(sorted(versions, key=by_age)) == len(versions)


class TestAnswers:
    @pytest.mark.parametrize(
        ("start", "status", "headers", "step"),
        [
            (0, 200, {}, Step.REWRITE),
            (0, 200, {"content-length": "100"}, Step.REWRITE),
            (0, 200, {"content-length": "101"}, Step.REFUSED),
            (0, 206, {"content-range": "bytes 0-99/100"}, Step.RESTART),
            (40, 206, {"content-range": "bytes 40-99/100"}, Step.APPEND),
            (40, 206, {"content-range": "bytes 40-99/*"}, Step.APPEND),
            (40, 206, {"content-range": "bytes 39-99/100"}, Step.RESTART),
            (40, 206, {"content-range": "bytes 40-98/100"}, Step.RESTART),
            (40, 206, {"content-range": "bytes 40-99/101"}, Step.RESTART),
            (40, 206, {"content-range": "bytes 40-99/100", "etag": '"other"'}, Step.RESTART),
            (40, 206, {}, Step.RESTART),
            (40, 200, {}, Step.REWRITE),
            (40, 416, {"content-range": "bytes */100"}, Step.RESTART),
            (40, 416, {}, Step.RESTART),
            (100, 416, {"content-range": "bytes */100"}, Step.DONE),
            (40, 404, {}, Step.MISSING),
            (40, 410, {}, Step.MISSING),
            (40, 403, {}, Step.REFUSED),
            (40, 304, {}, Step.REFUSED),
            (40, 302, {}, Step.REFUSED),
            (40, 302, {"location": "/x"}, Step.REDIRECT),
            (40, 503, {}, Step.RETRY),
            (40, 429, {"retry-after": "7"}, Step.RETRY),
            (40, 200, {"content-encoding": "gzip"}, Step.REFUSED),
        ],
    )
    def test_every_row_of_the_table(
        self, start: int, status: int, headers: dict[str, str], step: Step
    ) -> None:
        assert judge(start, 100, status, headers, '"mine"' if start else None).step is step

    @given(
        st.integers(0, 50),
        st.integers(0, 50),
        st.integers(100, 599),
        st.dictionaries(
            st.sampled_from(["content-range", "content-length", "etag", "retry-after"]), st.text()
        ),
    )
    def test_any_answer_is_judged(self, start: int, size: int, status: int, headers: dict[str, str]) -> None:
        verdict = judge(min(start, size), size, status, headers)
        assert verdict.step in Step
        assert 0 <= verdict.retry_after <= 60

    @given(st.text())
    def test_any_content_range_is_read(self, text: str) -> None:
        assert len(content_range(text)) == 3

    def test_the_ladder_has_three_retries_with_growing_pauses(self) -> None:
        ladder = Ladder()
        assert [ladder.pause(0, 0, 0.5) for _ in range(4)] == [1, 2, 5, None]

    def test_the_hub_may_ask_for_more_patience(self) -> None:
        assert Ladder().pause(0, 40, 0.5) == 40

    @given(st.floats(0, 1))
    def test_pauses_are_spread(self, chance: float) -> None:
        pause = Ladder().pause(0, 0, chance)
        assert pause is not None
        assert 0.8 <= pause <= 1.2

    def test_progress_starts_the_ladder_anew_within_a_limit(self) -> None:
        ladder = Ladder()
        pauses = [ladder.pause(Ladder.ENOUGH_BYTES, 0, 0.5) for _ in range(Ladder.MAX_ATTEMPTS)]
        assert pauses == [1] * (Ladder.MAX_ATTEMPTS - 1) + [None]


class TestCatalog:
    def test_checksums_in_both_forms(self) -> None:
        digest = "a" * 64
        assert parse_checksums(json.dumps({"a/b": digest.upper()}).encode()) == {"a/b": digest}
        assert parse_checksums(f"{digest}  a/b\n{digest} *c\n".encode()) == {"a/b": digest, "c": digest}

    @given(st.binary(max_size=100))
    def test_any_checksum_file_is_read_or_refused(self, data: bytes) -> None:
        with suppress(HubProtocolError, InvalidIdentifierError):
            parse_checksums(data)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.just("\ud800"),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=8,
        ),
        st.sampled_from(["path", "size_bytes", "sha256", "files", "model_id", "manifest_sha256", "other"]),
    )
    @example(1e999, "size_bytes")
    @example("\ud800", "path")
    def test_any_manifest_is_read_or_refused(self, odd: object, where: str) -> None:
        file = {"path": "a", "size_bytes": 1, "sha256": "0" * 64}
        manifest: dict[str, object] = {"model_id": "m", "version": "1", "files": [file]}
        if where in file:
            file[where] = odd  # type: ignore[assignment]
        else:
            manifest[where] = odd
        text = json.dumps(manifest)
        # The digest that makes it whole, as far as such a thing has one.
        with suppress(ValueError):
            if where != "manifest_sha256":
                digest = hashlib.sha256(canonical(json.loads(text))).hexdigest()
                text = json.dumps(manifest | {"manifest_sha256": digest})
        with suppress(HubProtocolError, InvalidIdentifierError):
            from_manifest(Key("m", "1"), text.encode(), ListedModel("m"), None)

    def test_nests_are_refused(self) -> None:
        deep = b'{"files":' + b"[" * 100_000
        with pytest.raises(HubProtocolError):
            from_manifest(Key("m", "1"), deep, ListedModel("m"), None)
        with pytest.raises(HubProtocolError):
            parse_checksums(deep)

    def test_the_version_that_is_meant(self) -> None:
        versions = [{"version": "1.9.0"}, {"version": "1.10.0"}, {"version": "2.0.0", "status": "yanked"}]
        listed = {
            "id": "m",
            "versions": versions,
            "channels": {"stable": "1.9.0"},
            "latest_version": "1.10.0",
        }
        model = msgspec.convert(listed, ListedModel)
        assert model.choose(None) == "1.10.0"
        assert model.choose("stable") == "1.9.0"
        assert model.choose("latest") == "1.10.0"
        assert model.choose("7") == "7"

    @pytest.mark.parametrize(
        ("given", "url"),
        [
            (None, "http://127.0.0.1:5000"),
            ("http://localhost:5000/", "http://127.0.0.1:5000"),
            ("https://hub.example/localhost/", "https://hub.example/localhost"),
        ],
    )
    def test_addresses(self, monkeypatch: pytest.MonkeyPatch, given: str | None, url: str) -> None:
        monkeypatch.delenv("MODEL_HUB_URL", raising=False)
        assert hub_url(given) == url

    def test_the_environment_names_the_hub(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MODEL_HUB_URL", "http://hub:1/")
        assert hub_url() == "http://hub:1"
        assert hub_url("http://other:2") == "http://other:2"

    @pytest.mark.parametrize(
        "text", ["hub:5000", "ftp://hub", "http://", "http://[", "http://localhost:port", "http://h:99999"]
    )
    def test_what_is_no_address(self, text: str) -> None:
        with pytest.raises(HubProtocolError, match="not an address"):
            hub_url(text)

    def test_file_addresses_are_encoded(self) -> None:
        url = Hub("http://h").file_url(Key("m", "1.0+b"), "a/ü %?#")
        assert url == "http://h/storage/models/m/1.0%2Bb/a/%C3%BC%20%25%3F%23"
        with pytest.raises(HubProtocolError):
            Hub("http://h").at("//evil/x")


class TestMeter:
    @given(
        st.lists(
            st.tuples(st.sampled_from(["have", "moved", "lost", "damaged"]), st.integers(0, 50)), max_size=40
        )
    )
    def test_the_percentage_goes_down_only_after_damage(self, steps: list[tuple[str, int]]) -> None:
        told: list[Event] = []
        now = 0.0
        meter = Meter("m", "1", told.append, lambda: now)
        meter.expect(1, 1000)
        for step, count in steps:
            now += 0.3
            match step:
                case "have":
                    meter.have(count)
                case "moved":
                    meter.moved(count, "a")
                case _:
                    meter.lost(count, damaged=step == "damaged")
        damaged = False
        last = 0.0
        for event in told:
            assert isinstance(event, Progress)
            if event.restarted and not damaged:
                damaged, last = True, 0.0
            if not damaged:
                assert event.percent >= last
            last = event.percent
            assert 0 <= event.percent <= 100

    def test_speed_is_the_mean_of_five_seconds(self) -> None:
        told: list[Event] = []
        now = 0.0
        meter = Meter("m", "1", told.append, lambda: now)
        meter.expect(1, 10_000)
        for _ in range(20):
            now += 0.5
            meter.moved(50, "a")
        last = told[-1]
        assert isinstance(last, Progress)
        assert last.download_speed == 100
        assert last.estimated_time_remaining == 90

    def test_at_most_five_events_a_second_but_every_state(self) -> None:
        told: list[Event] = []
        now = 0.0
        meter = Meter("m", "1", told.append, lambda: now)
        for _ in range(1000):
            now += 0.001
            meter.moved(1, "a")
        assert len(told) <= 6
        for state in State:
            meter.state(state)
        assert [event.state for event in told[-len(State) :] if isinstance(event, Progress)] == list(State)
