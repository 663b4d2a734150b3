"""The whole configuration, put together from its tables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import field

from linguad.config.base import Table
from linguad.config.cluster import Cluster
from linguad.config.gateway import Gateway
from linguad.config.hub import Hub
from linguad.config.jobs import Jobs
from linguad.config.logs import Log
from linguad.config.nodes import Nodes
from linguad.config.pools import Pools
from linguad.config.server import Server
from linguad.config.sessions import Sessions
from linguad.config.store import Store
from linguad.config.tracing import Tracing
from linguad.errors import ConfigError
from linguad.log import Notice

Part = Literal["scheduler", "gateway", "hub"]
"""What `linguad serve --only` may name. A gateway alone needs a cluster to give its work to."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration; made by `load`, never changed."""

    server: Server = field(default_factory=Server)
    sessions: Sessions = field(default_factory=Sessions)
    nodes: Nodes = field(default_factory=Nodes)
    jobs: Jobs = field(default_factory=Jobs)
    pools: Pools = field(default_factory=Pools)
    gateway: Gateway = field(default_factory=Gateway)
    hub: Hub = field(default_factory=Hub)
    cluster: Cluster = field(default_factory=Cluster)
    store: Store = field(default_factory=Store)
    log: Log = field(default_factory=Log)
    tracing: Tracing = field(default_factory=Tracing)
    notices: tuple[Notice, ...] = ()
    """Earlier log settings that were found; for `log.configure`, which says so."""

    def state_dir(self, env: Mapping[str, str] = os.environ) -> Path:
        """The directory for what outlives a restart; it need not exist yet.

        Raises ConfigError if it lies in a home directory that the user does not have.
        """
        try:
            return self._state_dir(env)
        except RuntimeError as error:
            problem = "must be a path without ~, because this user has no home directory"
            raise ConfigError([("server.state_dir", problem)]) from error

    def models_dir(self, env: Mapping[str, str] = os.environ) -> Path:
        """The directory of the hub's models; it need not exist yet. Raises ConfigError."""
        if given := self.hub.models_dir or env.get("MODELS_DIR"):
            try:
                return Path(given).expanduser()
            except RuntimeError as error:
                problem = "must be a path without ~, because this user has no home directory"
                raise ConfigError([("hub.models_dir", problem)]) from error
        return self.state_dir(env) / "models"

    def hub_url(self, env: Mapping[str, str] = os.environ) -> str:
        """The address of the hub that is not in this instance; "" if none is known."""
        return self.hub.url or env.get("MODEL_HUB_URL", "")

    def _state_dir(self, env: Mapping[str, str]) -> Path:
        if self.server.state_dir:
            return Path(self.server.state_dir).expanduser()
        if given := env.get("STATE_DIRECTORY"):
            # systemd separates several by colons; ours is the first.
            return Path(given.split(":")[0])
        if os.geteuid() == 0:
            return Path("/var/lib/linguad")
        return Path.home() / ".local" / "state" / "linguad"


TABLES: dict[str, type[Table]] = {
    "server": Server,
    "sessions": Sessions,
    "nodes": Nodes,
    "jobs": Jobs,
    "pools": Pools,
    "gateway": Gateway,
    "hub": Hub,
    "cluster": Cluster,
    "store": Store,
    "log": Log,
    "tracing": Tracing,
}
"""The type of each table, in the order in which they are printed."""
