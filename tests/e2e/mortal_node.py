"""A node that takes jobs, tells of them on standard output and never answers: `mortal_node.py PORT`."""

from __future__ import annotations

import json
import sys

import trio
from harness import Node

from linguad.net import dial


async def main(port: str) -> None:
    """Until killed."""
    async with dial.websocket(f"ws://127.0.0.1:{port}/ws/node") as ws, trio.open_nursery() as nursery:
        node = Node(ws)
        await node.register()
        nursery.start_soon(node.beat)
        print(json.dumps({"event": "ready"}), flush=True)
        while True:
            print(json.dumps({"event": "job", "job": await node.job()}), flush=True)


trio.run(main, sys.argv[1])
