"""`linguad serve` that also notes when each utterance was closed.

`python -m bench.parts.stamped_daemon FILE` serves like any daemon; at its end it writes a line to the file
for each utterance: session, index, and when it was cut, ns on the monotonic clock. That adds about a
microsecond a job to what the daemon does, and nothing else.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import trio

from linguad import cli
from linguad.core.job import JobRequest
from linguad.core.utterance import Audio
from linguad.dispatch.engine import Engine

_stamps: list[tuple[str, int, int]] = []
_submit = Engine.submit


def _stamped(engine: Engine, request: JobRequest, audio: Audio) -> None:
    ago_ns = round((trio.current_time() - request.cut_at) * 1e9)
    _stamps.append((request.session_id, request.utterance_index, time.monotonic_ns() - ago_ns))
    _submit(engine, request, audio)


if __name__ == "__main__":
    Engine.submit = _stamped  # type: ignore[method-assign, assignment]
    code = cli.main(["serve"])
    Path(sys.argv[1]).write_text("".join(f"{session} {index} {at}\n" for session, index, at in _stamps))
    sys.exit(code)
