"""What is known of a hub's services, while the hub answers, answers nonsense, and is away."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from linguad.errors import LinguadError
from linguad.ops.services import NoServices, OwnServices, RemoteServices, parse, pause_after

FULL = {
    "service_id": "nmt-m2m100",
    "name": "Nmt M2M100",
    "latest_version": "1.10.0",
    "variants": [
        {
            "version": "1.10.0",
            "platform": "linux-x64",
            "artifact": {"type": "zip", "url": "/s.zip", "sha256": "ab", "size_bytes": 7, "etag": "ab"},
            "signature": None,
            "status": "published",
        }
    ],
}
BARE = {"service_id": "bare", "variants": [{"artifact": {}}]}


def answer(*services: object) -> bytes:
    """What a hub answers to `/api/services`."""
    return json.dumps({"services": services}).encode()


@asynccontextmanager
async def played_hub(answers: list[tuple[int, bytes]]) -> AsyncIterator[str]:
    """A hub that answers so, one after the other, and its address."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            request = await stream.receive_some(65536)
            assert request.startswith(b"GET /api/services HTTP/1.1\r\n")
            status, body = answers.pop(0)
            head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            await stream.send_all(head.encode() + body)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        nursery.cancel_scope.cancel()


def test_what_is_missing_has_its_default_and_what_cannot_be_is_skipped() -> None:
    wrong = [{"name": "without id"}, {"service_id": "x", "variants": [{"version": "1.0.0"}]}, 7]
    (full, bare), skipped = parse(answer(FULL, *wrong, BARE))
    assert skipped == 3
    assert (full.service_id, full.latest_version) == ("nmt-m2m100", "1.10.0")
    assert (full.variants[0].platform, full.variants[0].artifact.size_bytes) == ("linux-x64", 7)
    assert (bare.name, bare.latest_version) == ("bare", "1.0.0")
    (variant,) = bare.variants
    assert (variant.version, variant.platform) == ("1.0.0", "unknown")
    assert (variant.artifact.type, variant.artifact.url, variant.artifact.size_bytes) == ("zip", "", 0)


@given(
    st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["services", "variants", "a"]), inner)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_answer_is_a_list_or_an_error(body: bytes) -> None:
    try:
        services, skipped = parse(body)
    except LinguadError:
        return
    assert len(services) + skipped == len(json.loads(body)["services"])


def test_pauses() -> None:
    assert [pause_after(failures) for failures in range(8)] == [30, 30, 30, 60, 120, 240, 300, 300]
    assert pause_after(10_000) == 300


def test_the_hub_in_this_process_is_read_once_for_each_change() -> None:
    answers = [answer(FULL), answer(BARE)]
    services = OwnServices(lambda: answers[0])
    first = services.listed()
    assert [one.service_id for one in first] == ["nmt-m2m100"]
    assert services.listed() is first
    del answers[0]
    assert [one.service_id for one in services.listed()] == ["bare"]
    assert services.state().last_success_at_ms > 0
    assert (NoServices().listed(), NoServices().state().last_success_at_ms) == ((), 0)


async def test_what_a_hub_said_holds_while_it_is_away(tmp_path: Path) -> None:
    index = tmp_path / "services_index.json"
    answers = [(503, b""), (200, b"{}"), (200, answer(FULL, {})), (500, b""), (200, answer())]
    async with played_hub(answers) as url:
        services = RemoteServices(url, index)
        assert (services.listed(), services.state().fetched_at_ms) == ((), 0)
        await services.refresh()
        state = services.state()
        assert (services.listed(), state.fail_count, state.last_success_at_ms) == ((), 1, 0)
        assert state.last_error == "hub_failed: the hub answers with status 503"

        index.write_text(json.dumps({"bare": BARE}))
        await services.refresh()
        assert [one.service_id for one in services.listed()] == ["bare"]
        state = services.state()
        assert (state.fail_count, state.last_success_at_ms) == (2, 0)
        assert REGISTRY.get_sample_value("scheduler_service_catalog_fail_count") == 2
        assert REGISTRY.get_sample_value("scheduler_service_catalog_last_success_age_seconds") == 0
        assert state.last_error is not None
        assert state.last_error.endswith("; used_local_index=true")

        await services.refresh()
        assert [one.service_id for one in services.listed()] == ["nmt-m2m100"]
        state = services.state()
        assert (state.fail_count, state.last_error, state.skipped) == (0, None, 1)
        assert state.last_success_at_ms == state.fetched_at_ms > 0
        assert (REGISTRY.get_sample_value("scheduler_service_catalog_last_success_age_seconds") or 0) > 0
        assert REGISTRY.get_sample_value("scheduler_service_catalog_fail_count") == 0

        await services.refresh()
        assert [one.service_id for one in services.listed()] == ["nmt-m2m100"], "not what the file says"
        later = services.state()
        assert (later.fail_count, later.last_success_at_ms) == (1, state.last_success_at_ms)

        await services.refresh()
        assert services.listed() == []
    await services.refresh()
    assert services.state().fail_count == 1


@pytest.mark.parametrize("content", ["[]", "no JSON", '{"a": 7}'])
async def test_an_index_that_is_none_changes_nothing(content: str, tmp_path: Path) -> None:
    index = tmp_path / "services_index.json"
    index.write_text(content)
    services = RemoteServices("http://127.0.0.1:1", index)
    await services.refresh()
    found: Any = services.listed()
    assert (list(found), services.state().fail_count) == ([], 1)
