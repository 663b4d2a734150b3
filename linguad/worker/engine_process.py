"""The process of one engine: `python -m linguad.worker.engine_process NAME PARENT_PID [MODEL_DIRECTORY]`.

Standard input and output carry frames: a length of 4 bytes, little-endian, then a message in MessagePack. The
first one out is Hello; then each request is answered by one reply. The process ends when its input does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import msgspec

from linguad.errors import EngineError
from linguad.worker import engines
from linguad.worker.engines.base import Engine, Failed, Hello, Load, Message, Ready, Reply, Request

LENGTH_BYTES = 4
"""Bytes of the length before each message."""

_PR_SET_PDEATHSIG = 1


def frame(message: Message) -> bytes:
    """A message as it travels over the pipe."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "little") + body


def serve(engine: Engine, requests: BinaryIO, replies: BinaryIO) -> None:
    """Say hello, then answer until `requests` ends; a bug in the engine ends the process with a traceback."""
    decoder = msgspec.msgpack.Decoder(Request)
    _send(replies, _hello(engine))
    with closing(engine):
        while head := requests.read(LENGTH_BYTES):
            request = decoder.decode(requests.read(int.from_bytes(head, "little")))
            _send(replies, _answer(engine, request))


def _hello(engine: Engine) -> Hello:
    problem = engine.probe()
    if problem is not None:
        return Hello(engine.kind, engine.device, "", [], [], problem)
    return Hello(engine.kind, engine.device, engine.version(), engine.languages(), engine.pairs(), None)


def _answer(engine: Engine, request: Request) -> Reply:
    try:
        if isinstance(request, Load):
            engine.load()
            return Ready()
        return engine.run(request)
    except EngineError as error:
        return Failed(str(error))


def _send(replies: BinaryIO, message: Message) -> None:
    replies.write(frame(message))
    replies.flush()


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The two pipes, out of reach of whatever an engine reads from or prints to the standard ones."""
    requests, replies = os.dup(0), os.dup(1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return os.fdopen(requests, "rb"), os.fdopen(replies, "wb")


def _end_with(parent: int) -> None:
    """Have the kernel kill this process when the node dies, even in the middle of a long calculation."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the node has ended")


def main(arguments: list[str]) -> None:
    """Run the engine that the command line names."""
    name, parent, *model = arguments
    _end_with(int(parent))
    # Ctrl-C goes to the whole terminal group; the node decides when its engines end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, replies = _take_pipes()
    serve(engines.create(name, Path(model[0]) if model else None), requests, replies)


if __name__ == "__main__":
    main(sys.argv[1:])
