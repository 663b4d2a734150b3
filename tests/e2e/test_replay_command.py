"""`linguad replay` of the log of a real daemon."""

from __future__ import annotations

import json
from pathlib import Path

from processes import DaemonProcess, linguad

TURNS = 5


async def test_the_log_of_a_daemon(tmp_path: Path) -> None:
    log = tmp_path / "linguad.log"
    daemon = DaemonProcess(tmp_path, log={"file": str(log)})
    try:
        async with daemon.working_node(), daemon.client() as one, daemon.client(tgt_lang="zh") as other:
            for _ in range(TURNS):
                for client in (one, other):
                    await client.speak()
                    assert await client.result()
        daemon.stop()
    finally:
        daemon.clear_away()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    jobs = [line for line in lines if line["event"] == "job_finished"]
    assert [(job["src"], job["tgt"], job["audio_seconds"]) for job in jobs] == [
        ("en", tgt, 0.78) for _ in range(TURNS) for tgt in ("es", "zh")
    ]
    # the node says 0.12 s, but did not have the job for so long
    assert all(0 < job["node_seconds"] < job["seconds"] + 0.001 for job in jobs)

    done = linguad("replay", log, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["nodes"], told["jobs"], told["sessions"]) == (1, 2 * TURNS, 2)
    assert told["pairs"] == ["en>es", "en>zh"]
    assert told["left_out"] == {"jobs": 0, "nodes": 0, "lines": 0}
    assert all(found["jobs"] == 2 * TURNS and found["given_up"] == 0 for found in told["policies"].values())

    done = linguad("replay", log)
    assert (done.returncode, done.stderr) == (0, "")
    assert "10 jobs of 2 sessions" in done.stdout
