"""A daemon whose store is PostgreSQL, which goes away for a while: calls go on, and nothing is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from conftest import Start
from postgres import Postgres
from processes import PATIENCE_S, Api

SECOND = bytes(range(1, 251)) * 128


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    running = Postgres()
    try:
        running.start()
        yield running
    finally:
        running.clear_away()


async def until_ready(api: Api, status: int) -> str:
    """Wait until `/health/ready` has this status; returns how the store is."""
    with trio.fail_after(PATIENCE_S):
        while (reply := await api.call("GET", "/health/ready", key="")).status != status:  # noqa: ASYNC110
            await trio.sleep(0.2)
    return str(reply.json["checks"]["store"])


async def used_ms(api: Api) -> int:
    reply = await api.call("GET", "/v1/usage?granularity=day")
    assert reply.status == 200, reply
    return int(reply.json["totals"]["audio_ms_in"])


async def test_calls_go_on_while_the_database_is_away(start: Start, server: Postgres, tmp_path: Path) -> None:
    pepper = tmp_path / "pepper"
    pepper.write_text("a secret that both of these daemons know")
    tables = {"store": {"url": server.make_database()}, "gateway": {"pepper_file": str(pepper)}}
    daemon = start(**tables)
    api = await daemon.gateway()
    async with daemon.working_node():
        assert (await api.translate(SECOND, src_lang="en", tgt_lang="es")).status == 200
        await trio.to_thread.run_sync(server.stop)
        assert await until_ready(api, 503) == "away"
        assert (await api.translate(SECOND, src_lang="en", tgt_lang="es")).status == 200
        refused = await api.call("POST", "/v1/webhooks", {"url": "https://example.com/", "events": ["ping"]})
        assert refused.status in (422, 503), "what has to be kept cannot be taken now"
        await trio.to_thread.run_sync(server.start)
        assert await until_ready(api, 200) == "ok"
        with trio.fail_after(PATIENCE_S):
            while await used_ms(api) != 2000:  # noqa: ASYNC110
                await trio.sleep(0.2)
    daemon.stop()

    again = start(**tables)
    port = (await again.event("listening", door="gateway"))["port"]
    assert await used_ms(Api(port, api.key)) == 2000
