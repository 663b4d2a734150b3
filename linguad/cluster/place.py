"""What all parts of the cluster's shell share: who we are, our way to Redis, its clock."""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
import uuid
from collections.abc import Mapping

import trio

from linguad import __version__
from linguad.config.cluster import Cluster as ClusterSettings
from linguad.errors import ConfigError
from linguad.net.redis.keys import Keys
from linguad.net.redis.service import RedisService, RedisSettings
from linguad.wire.peer import Peer

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")

GOOD_ROUND_TRIP_S = 0.25
"""A reply that took longer says too little about the time at which Redis wrote it, s."""


def instance_name(configured: str, env: Mapping[str, str]) -> str:
    """The name of this instance: `auto`, or a text with `${NAME}` of the environment.

    Raises ConfigError.
    """
    if configured.strip().lower() in ("", "auto"):
        host = _UNFIT.sub("-", socket.gethostname()).strip("-._")[:64] or "host"
        return f"{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    missing = [name for name in _VARIABLE.findall(configured) if not env.get(name)]
    if missing:
        raise ConfigError([("cluster.instance_id", f"${{{missing[0]}}} is not set in the environment")])
    name = _VARIABLE.sub(lambda found: env[found[1]], configured).strip()
    if not ID.fullmatch(name):
        problem = f"{name[:128]!r} cannot be used; allowed are up to 128 letters, digits and ._- (not first)"
        raise ConfigError([("cluster.instance_id", problem)])
    return name


def identity(instance: str, address: str) -> Peer:
    """This process as the others will know it."""
    return Peer(
        instance=instance,
        boot=secrets.token_hex(8),
        hostname=socket.gethostname(),
        pid=os.getpid(),
        version=__version__,
        address=address,
        started_at_ms=int(time.time() * 1000),
    )


def way_to_redis(settings: ClusterSettings, instance: str) -> RedisSettings:
    """How this process reaches Redis, and under which name."""
    return RedisSettings(
        instance_id=instance,
        url=settings.redis_url,
        urls=settings.redis_urls,
        sentinel_user=settings.sentinel_user,
        sentinel_password=settings.sentinel_password,
    )


class ServerClock:
    """Redis's time, from its replies: instances need not have the same clock."""

    def __init__(self) -> None:
        self._offset_ms = time.time() * 1000 - trio.current_time() * 1000
        self._known = False

    def now_ms(self) -> float:
        """Unix time of Redis, ms."""
        return trio.current_time() * 1000 + self._offset_ms

    def heard(self, server_ms: int, asked_at: float) -> None:
        """Redis told its time to a command that was sent then (trio clock)."""
        now = trio.current_time()
        if not self._known or now - asked_at <= GOOD_ROUND_TRIP_S:
            self._known = True
            self._offset_ms = server_ms - (asked_at + now) / 2 * 1000


class Place:
    """Where we stand: our own identity and the way to Redis."""

    def __init__(self, me: Peer, keys: Keys, redis: RedisService) -> None:
        self.me = me
        self.keys = keys
        self.redis = redis
        self.clock = ServerClock()

    def key(self, what: str, instance: str = "") -> str:
        """A key of an instance, our own without a name."""
        return self.keys.of("i", instance or self.me.instance, what)
