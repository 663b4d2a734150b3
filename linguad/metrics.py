"""Every Prometheus metric of linguad, in one place (pools-and-cluster 7.5; names `scheduler_` are frozen)."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

LINKS_OPEN = Gauge("linguad_links_open", "Open WebSocket connections", ["kind"])
LINK_CLOSES = Counter(
    "linguad_link_closes_total", "WebSocket connections closed by linguad", ["kind", "reason"]
)
LINK_CRASHES = Counter("linguad_link_crashes_total", "Connections ended by a bug in their handler", ["kind"])
FRONT_CONNECTIONS = Counter(
    "linguad_front_connections_total", "Connections by what their first bytes were", ["port", "route"]
)
OUTBOX_DROPPED = Counter(
    "linguad_outbox_dropped_total", "Optional messages dropped for a slow reader", ["kind"]
)
MESSAGES = Counter("linguad_messages_total", "Messages received", ["link", "type"])
REPAIRED = Counter(
    "linguad_wire_repaired_total", "Optional members dropped because they were malformed", ["link"]
)
REJECTED = Counter("linguad_wire_rejected_total", "Messages that could not be used", ["link", "code"])
