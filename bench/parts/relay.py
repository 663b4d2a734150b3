"""The bare relay that linguad is compared with: text from one socket to another, nothing else.

`python -m bench.parts.relay` prints its port and serves until it is ended. Each client belongs to one node
connection; as the node answers in order, the relay needs to know no more than who asked.
"""

from __future__ import annotations

import itertools
from collections import deque
from contextlib import suppress
from functools import partial

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from linguad.net.upgrade import MESSAGE_QUEUE_SIZE, RECEIVE_BUFFER_BYTES

SESSION_PATH = "/ws/session"
MAX_MESSAGE_BYTES = 16 * 2**20

_nodes: list[tuple[WebSocketConnection, deque[WebSocketConnection]]] = []
_turn = itertools.count()


async def serve(request: WebSocketRequest) -> None:
    """One connection, of a client or a node."""
    ws = await request.accept()
    with suppress(ConnectionClosed):
        await (from_client(ws) if request.path == SESSION_PATH else from_node(ws))


async def from_client(ws: WebSocketConnection) -> None:
    """Hand every message to the client's node; all but unfinished speech will be answered."""
    node, asking = _nodes[next(_turn) % len(_nodes)]
    while True:
        text = str(await ws.get_message())
        if '"is_final":false' not in text:
            asking.append(ws)
        await node.send_message(text)


async def from_node(ws: WebSocketConnection) -> None:
    """Hand every answer to the client that asked first."""
    asking: deque[WebSocketConnection] = deque()
    _nodes.append((ws, asking))
    while True:
        text = await ws.get_message()
        await asking.popleft().send_message(text)


async def main() -> None:
    """Serve on any free port."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(
                serve_websocket,
                serve,
                "127.0.0.1",
                0,
                ssl_context=None,
                message_queue_size=MESSAGE_QUEUE_SIZE,
                max_message_size=MAX_MESSAGE_BYTES,
                receive_buffer_size=RECEIVE_BUFFER_BYTES,
            )
        )
        print(server.port, flush=True)


if __name__ == "__main__":
    trio.run(main)
