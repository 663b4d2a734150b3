"""A real Prometheus reads a real daemon: what dashboard and alerts ask for is answered."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trio
import yaml
from conftest import Start
from harness import Node
from processes import PATIENCE_S, Api, DaemonProcess, Process, clean_environment
from redis_server import RedisServer, free_port

ETC = Path(__file__).parents[2] / "etc"
SECOND = bytes(range(1, 251)) * 128
"""A second of PCM16 at 16 kHz."""

QUIET = (
    "scheduler_slow_path_total",
    'scheduler_phase2_redis_op_total{result="err"}',
    'linguad_link_closes_total{reason=~"queue_full|write_timeout|slow_consumer"}',
)
"""What has no series where all goes well."""

SELECTOR = re.compile(r"\b(?:up|(?:linguad|scheduler)_\w+)\b(?:\{[^}]*\})?")

FROZEN_NAMES = {
    "scheduler_average_finalize_latency_ms": "abbreviated units",
    "scheduler_nodes_total": '"_total" suffix',
    "scheduler_service_catalog_fail_count": '"_count" suffix',
    "scheduler_sessions_total": '"_total" suffix',
    "scheduler_web_task_pause_ms": "abbreviated units",
}
"""What promtool would like to be different, in names of the earlier server, which stay."""


class Prometheus(Process):
    """Prometheus with our configuration for Docker, but one target on this machine, which it reads often."""

    def __init__(self, directory: Path, target: int) -> None:
        program = shutil.which("prometheus")
        assert program is not None, "install the Debian package prometheus"
        text = (ETC / "docker/prometheus.yml").read_text()
        for before, after in (
            (r"targets: \[.*\]", f'targets: ["127.0.0.1:{target}"]'),
            (r"_interval: 15s", "_interval: 250ms"),
        ):
            text, count = re.subn(before, after, text)
            assert count, before
        (directory / "prometheus.yml").write_text(text)
        shutil.copy(ETC / "prometheus/alerts.yml", directory)
        self._api = Api(free_port(), "")
        words = [
            program,
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._api.port}",
            "--log.level=warn",
        ]
        super().__init__(words, clean_environment(), directory)

    async def ask(self, path: str) -> Any:
        """What its API says, once it is up."""
        with trio.fail_after(PATIENCE_S):
            while True:
                assert self.running, self.complaints
                try:
                    reply = await self._api.call("GET", f"/api/v1/{path}")
                except OSError:
                    pass
                else:
                    if reply.status != 503:
                        assert reply.status == 200, (path, reply.body)
                        return reply.json["data"]
                await trio.sleep(0.1)

    async def values(self, query: str) -> list[float]:
        """What a query comes to now; nothing stands for numbers that are none."""
        found = (await self.ask(f"query?query={quote(query)}"))["result"]
        return [value for one in found if math.isfinite(value := float(one["value"][1]))]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer().start()
    yield server
    server.clear_away()


@asynccontextmanager
async def reading(directory: Path, port: int) -> AsyncIterator[Prometheus]:
    """A Prometheus that reads what listens on this port until the end of the block."""
    prometheus = Prometheus(directory, port)
    try:
        yield prometheus
        assert prometheus.complaints == []
    finally:
        prometheus.clear_away()


async def keep_busy(daemon: DaemonProcess) -> None:
    """People, an app, and somebody whose language no node has; a node that doubts what it hears."""

    async def work(node: Node) -> None:
        for level in cycle(("good", "bad")):
            await node.answer(await node.job(), asr_quality_level=level, reason_codes=["short"])

    async def speak_in_vain() -> None:
        while True:
            async with daemon.client(tgt_lang="fr") as client:
                await client.speak()
                await client.until("ui_event", event="ERROR")

    api = await daemon.gateway()
    async with daemon.node() as node, daemon.client() as client, trio.open_nursery() as nursery:
        nursery.start_soon(work, node)
        nursery.start_soon(speak_in_vain)
        while True:
            await client.speak()
            await client.result()
            await api.translate(SECOND, src_lang="en", tgt_lang="es")
            await trio.sleep(0.1)


async def until_answered(prometheus: Prometheus, queries: set[str]) -> None:
    """Wait until each of them has a number."""
    missing = queries
    with trio.move_on_after(PATIENCE_S):
        # Prometheus tells nobody that it has read
        while missing := {query for query in missing if not await prometheus.values(query)}:  # noqa: ASYNC110
            await trio.sleep(0.25)
    assert not missing


async def check_names(daemon: DaemonProcess) -> None:
    """`promtool check metrics` finds fault with nothing but names that stay as they are."""
    program = shutil.which("promtool")
    assert program is not None, "install the Debian package prometheus"
    _, text = await daemon.get("/metrics")
    done = await trio.run_process(
        [program, "check", "metrics"], stdin=text.encode(), capture_stderr=True, check=False
    )
    complaints = done.stderr.decode().splitlines()
    assert {line.partition(" ")[0] for line in complaints} == set(FROZEN_NAMES), complaints
    for line in complaints:
        assert line.endswith(FROZEN_NAMES[line.partition(" ")[0]]), line


async def until_evaluated(prometheus: Prometheus) -> None:
    """Wait until every alert has been evaluated; none may have failed."""
    with trio.fail_after(PATIENCE_S):
        while True:
            (group,) = (await prometheus.ask("rules"))["groups"]
            assert not any(rule.get("lastError") for rule in group["rules"])
            if all(rule["health"] == "ok" for rule in group["rules"]):
                assert len(group["rules"]) == len(rules())
                return
            await trio.sleep(0.25)


def expressions_of_the_board() -> set[str]:
    """Every expression of the dashboard, as it is asked for if all instances are chosen."""
    panels = json.loads((ETC / "grafana/linguad.json").read_text())["panels"]
    found = {target["expr"].replace("$instance", ".*") for panel in panels for target in panel["targets"]}
    assert all('{instance=~".*"' in one and "$" not in one for one in found)
    return found


def is_quiet(expression: str) -> bool:
    """Whether it asks for something that has no series where all goes well."""
    plain = re.sub(r'instance=~"\.\*"(, )?', "", expression).replace("{}", "")
    return any(selector in plain for selector in QUIET)


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((ETC / "prometheus/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


async def test_dashboard_and_alerts_get_answers(start: Start, redis: RedisServer, tmp_path: Path) -> None:
    # Prometheus looks at its targets after 5 s, which is time for the daemon to start
    port = free_port()
    daemon = start(
        server={"port": port},
        cluster={"redis_url": redis.url, "instance_id": "a"},
        store={"shared": True},
        jobs={"pending_timeout_seconds": 2},
    )
    async with reading(tmp_path, port) as prometheus, trio.open_nursery() as nursery:
        nursery.start_soon(keep_busy, daemon)
        asked = expressions_of_the_board()
        await until_answered(prometheus, {one for one in asked if not is_quiet(one)})
        for query in asked:
            await prometheus.values(query)
        assert await prometheus.ask("label/instance/values?match[]=linguad_jobs_open")
        selectors = {one for rule in rules() for one in SELECTOR.findall(rule["expr"])}
        assert selectors >= set(QUIET)
        await until_answered(prometheus, selectors - set(QUIET))
        await until_evaluated(prometheus)
        await check_names(daemon)
        nursery.cancel_scope.cancel()
