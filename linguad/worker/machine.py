"""The machine a node runs on: what it is, and how busy it is (node-protocol 2.12)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from linguad.wire.node import GpuInfo, HardwareInfo

GPU_PROBE_SECONDS = 3.0
"""As real nodes: a driver that answers later counts as no GPU."""

_GPU_QUERY = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
_STAT, _MEMINFO = Path("/proc/stat"), Path("/proc/meminfo")


def platform() -> str:
    """`linux`, `macos` or `windows`."""
    return {"darwin": "macos", "win32": "windows"}.get(sys.platform, "linux")


def hardware() -> HardwareInfo:
    """Cores, memory (GiB) and GPUs; asking for GPUs may take seconds, so this is for a worker thread."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return HardwareInfo(cpu_cores=os.cpu_count() or 1, memory_gb=round(memory / 2**30), gpus=_gpus() or None)


def _gpus() -> list[GpuInfo]:
    try:
        done = subprocess.run(
            _GPU_QUERY, capture_output=True, text=True, check=True, timeout=GPU_PROBE_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.rpartition(",") for line in done.stdout.splitlines()]
    return [
        GpuInfo(name=name.strip(), memory_gb=round(int(mib) / 1024))
        for name, _, mib in rows
        if mib.strip().isdecimal()
    ]


class Busy(Protocol):
    """How busy a node is."""

    def cpu_percent(self) -> float:
        """Busy share of its cores, 0 to 100."""
        ...

    def memory_percent(self) -> float | None:
        """Used share of its memory, 0 to 100."""
        ...


class Load:
    """Load of the machine; `cpu_percent` is the mean since it was asked last."""

    def __init__(self) -> None:
        self._last = _cpu_times()

    def cpu_percent(self) -> float:
        """Busy share of all cores, 0 to 100; from the load average where the kernel has no /proc."""
        busy, total = _cpu_times()
        busy_before, total_before = self._last
        self._last = busy, total
        if total == 0:
            return min(100.0, 100.0 * os.getloadavg()[0] / (os.cpu_count() or 1))
        # Within one clock tick nothing is counted yet.
        return 100.0 * (busy - busy_before) / max(1, total - total_before)

    def memory_percent(self) -> float | None:
        """Used share of memory, 0 to 100; None where the kernel has no /proc."""
        try:
            lines = _MEMINFO.read_text().splitlines()
        except OSError:
            return None
        kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return 100.0 * (1 - kib["MemAvailable"] / kib["MemTotal"])


def _cpu_times() -> tuple[int, int]:
    """Clock ticks that all cores were busy, and in all, since the machine started; zeros without /proc."""
    try:
        ticks = [int(word) for word in _STAT.read_text().partition("\n")[0].split()[1:9]]
    except OSError:
        return 0, 0
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)
