"""Files of many gigabytes: exact beyond 4 GiB, in constant memory, and given up at once.

They are sparse where they lie, so that nothing but their end needs disk.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from played_hub import PlayedHub, played_hub, sha256

from linguad.models import part as parts
from linguad.models.catalog import canonical
from linguad.models.errors import Cancelled
from linguad.models.layout import Layout
from linguad.models.locks import Locks
from linguad.models.manager import ModelManager, Settings
from linguad.models.part import Journal, journal_of

SIZE = 6 << 30
SHA256 = "5c32c2b28999325bc5ad39d6530bcb46fbdf1f86375a991b7269764c50b0d109"
"""Of 6 GiB of zeros."""

MISSING = 64 << 20
"""What comes over the line."""

PATIENCE_SECONDS = 600

PULL = """
import resource, sys, trio
from pathlib import Path
from linguad.models.manager import ModelManager, Settings
async def main():
    async with ModelManager.open(Settings(data=Path(sys.argv[1]), hub=sys.argv[2])) as manager:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await manager.ensure("m", "1.0.0")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
trio.run(main)
"""


class ZeroHub(PlayedHub):
    """Has one model of one file of zeros, which is nowhere in memory."""

    size = SIZE

    def manifest(self, model_id: str, version: str) -> dict[str, Any]:
        manifest = super().manifest(model_id, version)
        del manifest["manifest_sha256"]
        (file,) = manifest["files"]
        file |= {"size_bytes": self.size, "sha256": SHA256}
        manifest["total_size"] = self.size
        return manifest | {"manifest_sha256": sha256(canonical(manifest))}

    async def _file(self, stream: trio.SocketStream, headers: dict[str, str], data: bytes) -> None:
        found = re.fullmatch(r"bytes=(\d+)-", headers["range"])
        assert found
        start = int(found[1])
        head = f"HTTP/1.1 206 x\r\nContent-Range: bytes {start}-{self.size - 1}/{self.size}\r\n"
        await stream.send_all(f"{head}Content-Length: {self.size - start}\r\n\r\n".encode())
        zeros = bytes(1 << 20)
        for at in range(start, self.size, len(zeros)):
            await stream.send_all(zeros[: self.size - at])


@asynccontextmanager
async def zero_hub(size: int = SIZE) -> AsyncIterator[ZeroHub]:
    hub = ZeroHub({"m": {"1.0.0": {"zeros": b"0"}}})
    hub.size = size
    async with played_hub(hub=hub):
        yield hub


def begun(data: Path, hub: PlayedHub, had: int, size: int) -> None:
    """A download that was interrupted after `had` bytes."""
    layout = Layout(data)
    layout.prepare()
    part = layout.part("m_1.0.0", "zeros")
    part.touch()
    os.truncate(part, had)
    url = f"{hub.url}/storage/models/m/1.0.0/zeros"
    journal = Journal(url, "1.0.0", size, SHA256, durable_bytes=had)
    journal_of(part).write_bytes(msgspec.json.encode(journal))


async def test_a_file_of_6_gib_goes_on_exactly_where_it_was_and_takes_no_memory(tmp_path: Path) -> None:
    async with zero_hub() as hub:
        begun(tmp_path, hub, SIZE - MISSING, SIZE)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", PULL, str(tmp_path), hub.url]
        with trio.fail_after(PATIENCE_SECONDS):
            done = await trio.run_process(command, env=environment, capture_stdout=True)
        assert hub.ranges_asked() == {"zeros": [f"bytes={SIZE - MISSING}-"]}
    assert (tmp_path / "models/m/1.0.0/zeros").stat().st_size == SIZE
    assert int(done.stdout) < 64 << 10


async def test_a_download_that_hashes_what_it_has_can_be_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To hash it all would take minutes; the lock is free at once."""
    size = 256 << 30
    hashing = threading.Event()
    go_on = parts.unless_cancelled

    def note() -> None:
        hashing.set()
        go_on()

    monkeypatch.setattr(parts, "unless_cancelled", note)
    async with zero_hub(size) as hub:
        begun(tmp_path, hub, size, size)
        async with ModelManager.open(Settings(data=tmp_path, hub=hub.url)) as manager:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def download() -> None:
                    with pytest.raises(Cancelled):
                        await manager.download("m", "1.0.0")

                await trio.to_thread.run_sync(partial(hashing.wait, PATIENCE_SECONDS))
                assert len(Locks(manager.layout.tasks).owners()) == 1
                manager.cancel("m", "1.0.0")
            assert Locks(manager.layout.tasks).owners() == []
    assert Layout(tmp_path).part("m_1.0.0", "zeros").stat().st_size == size
