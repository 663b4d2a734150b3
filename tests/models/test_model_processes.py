"""Several processes at one data directory: killed ones, two at once, and the locks between them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import trio
from patience import PATIENCE_S
from played_hub import Fault, played_hub

from linguad.models.layout import Layout
from linguad.models.part import BLOCK_BYTES

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CHANCE = random.Random(3)
FILES = {
    f"f{n}": CHANCE.randbytes(size) for n, size in enumerate((700_000, 300_000, 10, 200_000, 0, 100_000))
}
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), *sys.path]))}

PULL = """
import sys, trio
from pathlib import Path
from linguad.models.manager import ModelManager, Settings
async def main():
    async with ModelManager.open(Settings(data=Path(sys.argv[1]), hub=sys.argv[2])) as manager:
        print(await manager.ensure("m", "1.0.0"))
trio.run(main)
"""


async def run(*command: str) -> str:
    with trio.fail_after(2 * PATIENCE_S):
        done = await trio.run_process(
            [sys.executable, *command], env=ENVIRONMENT, cwd=ROOT, capture_stdout=True, capture_stderr=True
        )
    return done.stdout.decode()


async def test_processes_killed_at_any_point_leave_all_in_order(tmp_path: Path) -> None:
    async with played_hub({"m": {"1.0.0": FILES}}) as hub:
        hub.slow = 0.01
        assert await run(str(HERE / "mortal.py"), str(tmp_path), hub.url, "60", "4") == ""
    for name, data in FILES.items():
        assert (tmp_path / "models/m/1.0.0" / name).read_bytes() == data
    layout = Layout(tmp_path)
    assert [*layout.temp.iterdir(), *layout.staging.iterdir(), *layout.tasks.glob("*.lock")] == []
    assert json.loads(layout.active.read_text())["m"]["version"] == "1.0.0"


async def test_a_killed_process_costs_at_most_a_block_of_each_file(tmp_path: Path) -> None:
    """And its lock is taken over at once, although it was held for a second only."""
    files = {f"f{n}": CHANCE.randbytes(3_000_000) for n in range(3)}
    sent = BLOCK_BYTES + 500_000
    async with played_hub({"m": {"1.0.0": files}}) as hub:
        hub.faults.extend([Fault("stall", sent)] * len(files))
        command = [sys.executable, "-c", PULL, str(tmp_path), hub.url]
        process = await trio.lowlevel.open_process(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        parts = {name: Layout(tmp_path).part("m_1.0.0", name) for name in files}
        with trio.fail_after(PATIENCE_S):
            while not all(  # noqa: ASYNC110 - a process writes them
                part.exists() and part.stat().st_size >= BLOCK_BYTES for part in parts.values()
            ):
                await trio.sleep(0.01)
        process.kill()
        await process.wait()
        kept = {name: part.stat().st_size for name, part in parts.items()}
        assert all(size > sent - BLOCK_BYTES for size in kept.values())
        hub.asked.clear()
        await run("-c", PULL, str(tmp_path), hub.url)
        # Which bytes the second process asked for; every request of the first one was answered long before.
        assert hub.ranges_asked() == {name: [f"bytes={size}-"] for name, size in kept.items()}
        for name, data in files.items():
            assert (tmp_path / "models/m/1.0.0" / name).read_bytes() == data


async def test_two_processes_want_the_same_and_one_fetches_it(tmp_path: Path) -> None:
    async with played_hub({"m": {"1.0.0": FILES}}) as hub, trio.open_nursery() as nursery:
        hub.slow = 0.02
        said: list[str] = []

        async def pull() -> None:
            said.append(await run("-c", PULL, str(tmp_path), hub.url))

        nursery.start_soon(pull)
        nursery.start_soon(pull)
        while len(said) < 2:  # noqa: ASYNC110 - processes end outside
            await trio.sleep(0.05)
        assert said == [f"{tmp_path}/models/m/1.0.0\n"] * 2
        assert sorted(hub.files_asked()) == sorted(name for name, data in FILES.items() if data)
