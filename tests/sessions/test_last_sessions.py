"""What clients are told after a restart of the daemon (promise "Restart of a single instance")."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import trio
from harness import daemon_in_memory
from patience import PATIENCE_S
from trio.testing import wait_all_tasks_blocked

from linguad.sessions.last import REMEMBERED_SECONDS, LastSessions


async def stopped(path: Path) -> dict[str, str]:
    """A daemon runs and stops; what its only client with a result needs for a resume."""
    async with daemon_in_memory(server={"state_dir": str(path)}) as world:
        node = await world.node()
        client, old = await world.stranger(), await world.client()
        ack = await client.open(resume={})
        for _ in range(2):
            await client.speak()
        await node.answer(await node.job())
        assert (await client.result())["delivery"] == 1
        await node.job()
        await old.speak()
        await node.job()
        world.daemon.sessions.abandon()
        await world.daemon.sessions.remember()
        for abandoned in (client, old):
            missing = await abandoned.until("missing_result")
            assert missing["reason"] == "cancelled"
        await wait_all_tasks_blocked()
    return {"session_id": ack["session_id"], "resume_token": ack["resume_token"]}


async def test_client_learns_how_far_it_came(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE_S):
        resume = await stopped(tmp_path)
        file = tmp_path / "sessions.json"
        assert resume["resume_token"] not in file.read_text()
        assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
        async with daemon_in_memory(server={"state_dir": str(tmp_path)}) as world:
            await world.daemon.load_memory()
            assert not file.exists()
            thief = await (await world.stranger()).open(resume=resume | {"resume_token": "guess"})
            assert (thief["recovered"], thief.get("delivery")) == (False, None)
            ack = await (await world.stranger()).open(resume=resume)
            assert ack["recovered"] is False
            assert (ack["delivery"], ack["last_utterance_index"]) == (2, 1)
            assert ack["session_id"] != resume["session_id"]
            once_more = await (await world.stranger()).open(resume=resume)
            assert once_more.get("delivery") is None


@pytest.mark.parametrize("late_s", [REMEMBERED_SECONDS + 1, -5.0])
async def test_old_files_tell_nothing(tmp_path: Path, late_s: float) -> None:
    with trio.fail_after(PATIENCE_S):
        resume = await stopped(tmp_path)
        last = LastSessions(tmp_path / "sessions.json")
        await last.load((tmp_path / "sessions.json").stat().st_mtime + late_s)
        assert last.take(resume["session_id"], resume["resume_token"]) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"saved_at": 1}'])
async def test_broken_files_are_no_obstacle(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sessions.json"
    file.write_text(text)
    last = LastSessions(file)
    await last.load(0.0)
    assert last.take("s-1", "token") is None
