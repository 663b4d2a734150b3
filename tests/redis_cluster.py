"""A real Redis Cluster of three masters on free ports, and moves of its slots."""

from __future__ import annotations

import time
from collections.abc import Callable

from redis_server import PATIENCE_S, RedisServer

SLOTS = 16384


class RedisCluster:
    """Three masters that share the slots. `move` and its parts do what redis-cli --cluster reshard does."""

    def __init__(self) -> None:
        self.servers = [
            RedisServer("cluster-enabled yes", "cluster-node-timeout 15000", port=True) for _ in range(3)
        ]
        for server in self.servers:
            server.start()
        first = self.servers[0]
        for number, server in enumerate(self.servers):
            start, end = number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1
            server.do("CLUSTER", "ADDSLOTSRANGE", start, end)
            server.do("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if server is not first:
                first.do("CLUSTER", "MEET", "127.0.0.1", server.port)
        _wait(lambda: all(self._is_whole(server) for server in self.servers), "the cluster")

    @property
    def urls(self) -> list[str]:
        """Of all its servers."""
        return [server.tcp_url for server in self.servers]

    def nodes(self, server: RedisServer) -> list[list[str]]:
        """How this server sees all of them: lines of CLUSTER NODES, in words."""
        seen = server.do("CLUSTER", "NODES")
        assert isinstance(seen, bytes)
        return [line.split() for line in seen.decode().splitlines()]

    def owner(self, slot: int) -> RedisServer:
        """Who has the slot, as the servers themselves see it."""
        for server in self.servers:
            for words in self.nodes(server):
                if "myself" in words[2] and any(_has(part, slot) for part in words[8:]):
                    return server
        raise AssertionError(f"nobody has slot {slot}")

    def begin_move(self, slot: int, target: RedisServer) -> None:
        """From now on keys that are not there any more are asked for with ASK."""
        source = self.owner(slot)
        target.do("CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(source))
        source.do("CLUSTER", "SETSLOT", slot, "MIGRATING", self._id(target))

    def move_keys(self, slot: int, target: RedisServer) -> int:
        """Move the keys of a slot that moves."""
        source = self.owner(slot)
        keys = source.do("CLUSTER", "GETKEYSINSLOT", slot, 1000)
        assert isinstance(keys, list)
        for key in keys:
            source.do("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        return len(keys)

    def end_move(self, slot: int, target: RedisServer) -> None:
        """The slot is the target's; the source answers MOVED."""
        name = self._id(target)
        for server in (target, *self.servers):
            server.do("CLUSTER", "SETSLOT", slot, "NODE", name)
        # A server that moves a slot before it has heard of the last move takes an old epoch, and the two
        # then send clients to each other for good.
        _wait(self._agree, "agreement")

    def move(self, slot: int, target: RedisServer) -> None:
        """Move a slot with its keys."""
        self.begin_move(slot, target)
        self.move_keys(slot, target)
        self.end_move(slot, target)

    def clear_away(self) -> None:
        """End all servers and remove their files."""
        for server in self.servers:
            server.clear_away()

    def _agree(self) -> bool:
        """Whether all know the newest epoch of each."""
        views = [sorted((words[0], words[6]) for words in self.nodes(server)) for server in self.servers]
        return all(view == views[0] for view in views)

    def _id(self, server: RedisServer) -> bytes:
        name = server.do("CLUSTER", "MYID")
        assert isinstance(name, bytes)
        return name

    def _is_whole(self, server: RedisServer) -> bool:
        info = server.do("CLUSTER", "INFO")
        assert isinstance(info, bytes)
        return b"cluster_state:ok" in info and b"cluster_known_nodes:3" in info


def _wait(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, f"{what} does not come about"
        time.sleep(0.01)


def _has(part: str, slot: int) -> bool:
    if part.startswith("["):
        return False
    first, _, last = part.partition("-")
    return int(first) <= slot <= int(last or first)
