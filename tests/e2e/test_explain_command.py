"""`linguad explain` asks a real daemon why an utterance went where it went."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import trio
from processes import DaemonProcess, linguad


async def explain(daemon: DaemonProcess, *words: str) -> CompletedProcess[str]:
    """Run the command against a daemon."""
    server = f"http://127.0.0.1:{await daemon.port()}"
    return await trio.to_thread.run_sync(partial(linguad, "explain", *words, "--server", server))


async def test_translated_and_untranslated(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path, jobs={"pending_timeout_seconds": 0.5})
    try:
        async with daemon.working_node(), daemon.client() as client, daemon.client(tgt_lang="fr") as other:
            await client.speak()
            result = await client.result()
            done = await explain(daemon, result["job_id"])
            assert (done.returncode, done.stderr) == (0, "")
            assert "completed" in done.stdout
            assert "oído" not in done.stdout
            await other.speak()
            event = await other.until("ui_event", event="ERROR")
            assert event["details"]["reason"] == "lang_pair_unsupported"
            done = await explain(daemon, f"{event['session_id']}:0", "--json")
            assert (done.returncode, done.stderr) == (0, "")
            (job,) = json.loads(done.stdout)["jobs"]
            assert (job["job_id"], job["status"], job["attempts"]) == (event["job_id"], "failed", [])
            assert (job["error"], job["details"]) == (event["error_code"], event["details"])
        done = await explain(daemon, result["job_id"])
        assert (done.returncode, done.stderr) == (0, ""), "though no node could do it now"
        assert "completed" in done.stdout
        assert "offline" in done.stdout
        assert "no_impl" not in done.stdout
        done = await explain(daemon, "nothing")
        assert (done.returncode, done.stdout) == (1, "")
        assert "SESSION:INDEX" in done.stderr
        done = await explain(daemon, "nothing", "--token", "wrong")
        assert done.returncode == 1
        assert "--token" in done.stderr
        daemon.stop()
    finally:
        daemon.clear_away()
