"""Processes that download and are killed: `python mortal.py DIRECTORY HUB KILLS SEED`.

Each one is forked from this process, which has all modules loaded, so that a death costs milliseconds. After
each the disk is looked at as the next process will find it. What is wrong goes to standard output.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import msgspec
import trio

from linguad.models.answer import Ladder
from linguad.models.manager import ModelManager, Settings
from linguad.models.part import hash_file
from linguad.models.registry import Record

WHOLE_SECONDS = 0.35
"""A removal and a download take about so long with the test's hub; kills are spread over a bit more."""


async def _live(data: Path, hub: str) -> None:
    """Remove what is there and download it again."""
    async with ModelManager.open(Settings(data=data, hub=hub)) as manager:
        if manager.installed():
            await manager.keeper.uninstall("m", "1.0.0")
        await manager.download("m", "1.0.0", wait=True)
        await manager.keeper.activate("m", "1.0.0")


def _born(data: Path, hub: str) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            trio.run(_live, data, hub)
            code = 0
        except Exception:  # noqa: BLE001 - it is told, and the parent judges
            traceback.print_exc(file=sys.stdout)
        finally:
            sys.stdout.flush()
            os._exit(code)
    return child


def _inconsistent(data: Path) -> list[str]:
    """What the registry says and is not so."""
    try:
        records = msgspec.json.decode(
            (data / "models/registry.json").read_bytes(), type=dict[str, dict[str, Record]]
        )
    except FileNotFoundError:
        return []
    except msgspec.MsgspecError as error:
        return [f"the registry cannot be read: {error}"]
    return [
        f"{model_id}@{version} is {record.status} and {file.path} is wrong"
        for model_id, versions in records.items()
        for version, record in versions.items()
        for file in record.files
        if not _is_right(data / "models" / model_id / version / file.path, file.sha256)
    ]


def _is_right(path: Path, digest: str) -> bool:
    try:
        return hash_file(path)[1] == digest
    except OSError:
        return False


def main() -> None:
    """Kill, look, kill, then let one live."""
    data, hub, kills, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    chance = random.Random(seed)
    Ladder.DELAYS = (0.0, 0.0, 0.0)
    ended = 0
    for number in range(kills):
        child = _born(data, hub)
        time.sleep(chance.uniform(0, WHOLE_SECONDS * 1.2))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            ended += 1
            if os.WEXITSTATUS(status):
                print(f"process {number} failed", flush=True)
        for problem in _inconsistent(data):
            print(f"after kill {number}: {problem}")
    _, status = os.waitpid(_born(data, hub), 0)
    if os.waitstatus_to_exitcode(status) != 0:
        print("the last process failed")
    for problem in _inconsistent(data):
        print(f"at the end: {problem}")
    print(f"{ended} of {kills} ended before they were killed", file=sys.stderr)


if __name__ == "__main__":
    main()
