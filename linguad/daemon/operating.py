"""What operators look at: the routes of the scheduler's port beside those of nodes and pools."""

from __future__ import annotations

from quart_trio import QuartTrio

from linguad.config import Config
from linguad.ops.history import add_history_route
from linguad.ops.instance import Instance
from linguad.ops.live import add_live_route
from linguad.ops.old_paths import add_old_paths
from linguad.ops.sessions import add_session_routes
from linguad.ops.statistics import add_stats_route
from linguad.ops.utterances import add_utterance_routes
from linguad.ops.viewers import Viewers, add_viewer_routes
from linguad.ops.watch import Watch


def add_operating_routes(
    app: QuartTrio, instance: Instance, watch: Watch, config: Config, token: str
) -> Viewers:
    """Serve them; returns who may look at pages."""
    viewers = Viewers(config.server.pages, token)
    add_viewer_routes(app, viewers)
    add_stats_route(app, watch.snapshot)
    add_history_route(app, watch.history, viewers)
    add_live_route(app, watch.live, viewers)
    add_session_routes(app, instance, token)
    add_utterance_routes(app, instance, token)
    add_old_paths(app)
    return viewers
