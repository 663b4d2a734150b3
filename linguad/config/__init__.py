"""Configuration: one frozen `Config` from a TOML file and `LINGUAD_<TABLE>__<KEY>` in the environment.

`python -m linguad.config` prints etc/linguad.toml, with `--page` docs/settings.md.
"""

from linguad.config.base import Secret, Table
from linguad.config.jobs import Jobs
from linguad.config.logs import Log
from linguad.config.nodes import Nodes
from linguad.config.pools import Pools
from linguad.config.reading import load
from linguad.config.server import Server
from linguad.config.sessions import Sessions
from linguad.config.whole import TABLES, Config, Part
from linguad.config.writing import old_page, reference, render, settings_page

__all__ = [
    "TABLES",
    "Config",
    "Jobs",
    "Log",
    "Nodes",
    "Part",
    "Pools",
    "Secret",
    "Server",
    "Sessions",
    "Table",
    "load",
    "old_page",
    "reference",
    "render",
    "settings_page",
]
