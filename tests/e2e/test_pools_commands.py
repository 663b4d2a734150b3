"""`linguad pools` and `linguad simulate` ask a real daemon with capability pools."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import trio
from harness import SERVICES
from processes import DaemonProcess, linguad

TONE = {"service_id": "test-tone", "type": "tone", "device": "gpu", "status": "running", "version": "2.0.0"}
POOLS = {
    "capability": {
        "core": {"id": 10, "required_services": ["asr", "nmt", "tts"]},
        "rich": {"id": 12, "required_services": ["asr", "nmt", "tts", "tone"]},
    },
    "tenants": {"acme": {"pool": "rich", "strict": True}},
}


async def run(*words: str) -> CompletedProcess[str]:
    return await trio.to_thread.run_sync(partial(linguad, *words))


async def test_pools_and_where_a_job_would_go(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path, pools=POOLS)
    try:
        server = ("--server", f"http://127.0.0.1:{await daemon.port()}")
        async with (
            daemon.node(node_id="plain-1"),
            daemon.unregistered() as rich,
            trio.open_nursery() as nursery,
        ):
            services = {"installed_services": [*SERVICES, TONE]}
            await rich.register("rich-1", **services)
            nursery.start_soon(rich.beat, services)
            done = await run("pools", *server)
            assert (done.returncode, done.stderr) == (0, "")
            assert "core" in done.stdout
            assert "rich-1" in done.stdout
            done = await run("pools", "--json", "--src", "en", "--tgt", "es", *server)
            (pair,) = json.loads(done.stdout)["lang_pools"]
            assert (pair["src"], pair["tgt"], pair["ready_nodes"]) == ("en", "es", 2)
            done = await run("simulate", "--src", "en", "--tgt", "es", "--tenant", "acme", *server)
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout.startswith("It would go to rich-1")
            assert "rich (12): ok" in done.stdout
            done = await run(
                "simulate", "--src", "en", "--tgt", "es", "--tenant", "acme", "--exclude", "rich-1", *server
            )
            assert done.stdout.startswith("It would wait")
            assert "left out" in done.stdout
            done = await run("simulate", "--src", "en", "--tgt", "es", "--exclude", "nobody", *server)
            assert done.stdout.startswith("It would go to")
            assert "No node nobody is known" in done.stdout
            done = await run("simulate", "--src", "en", "--tgt", "es", "--require", "whisper", *server)
            assert (done.returncode, done.stdout) == (1, "")
            assert "there is no 'whisper'" in done.stderr
            nursery.cancel_scope.cancel()
        daemon.stop()
    finally:
        daemon.clear_away()
