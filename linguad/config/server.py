"""Settings of the front door, the state directory and the end of the daemon."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from linguad.config.base import GIB, Secret, Table


class Server(Table, frozen=True, kw_only=True):
    """The front door on one port, the state directory, and how the daemon stops."""

    host: Annotated[
        str,
        Meta(
            description="Address to listen on. Empty means all addresses of the machine, IPv4 and IPv6, "
            "because nodes and clients come from elsewhere; `127.0.0.1` keeps the daemon to "
            "this machine."
        ),
    ] = ""
    port: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="TCP port for session sockets, node sockets and HTTP alike. 5010 is what existing "
            "clients and nodes dial; 0 takes any free port (for tests).",
        ),
    ] = 5010
    state_dir: Annotated[
        str,
        Meta(
            description="Directory for what outlives a restart. Empty means what systemd gives in "
            "$STATE_DIRECTORY, else /var/lib/linguad for root, else ~/.local/state/linguad, so "
            "that no set-up is needed anywhere."
        ),
    ] = ""
    admin_token: Annotated[
        Secret,
        Meta(
            description="Token that routes which name jobs or change state ask for. Empty means that one is "
            "generated into state_dir/admin_token (mode 0600), so that there never is a known "
            "default. Better set by LINGUAD_SERVER__ADMIN_TOKEN than in this file."
        ),
    ] = ""
    pages: Annotated[
        Literal["loopback", "token", "public"],
        Meta(
            description="Who sees the dashboards: `loopback` browsers on the server itself, which needs no "
            "set-up and shows nothing to strangers; `token` also whoever types the admin token into the "
            "form they get elsewhere; `public` everybody. The pages show node ids and languages, never "
            "keys, addresses of clients, or what was said."
        ),
    ] = "loopback"
    drain_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="After SIGTERM, how long open jobs may still finish before sockets are closed. 25 "
            "lets nearly every job end and stays below the 35 s after which systemd kills.",
        ),
    ] = 25
    hard_stop_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=3700,
            description="After SIGTERM, when the process ends whatever still runs. 32 leaves 7 s after the "
            "drain for closing sockets and 3 s before systemd kills.",
        ),
    ] = 32
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks (CIDR) of your own reverse proxies. Only from these are X-Forwarded-For "
            "and X-Forwarded-Proto believed; empty, because anybody can send such a header. "
            'Example: ["10.0.0.0/8"].'
        ),
    ] = ()
    peek_seconds: Annotated[
        float,
        Meta(
            ge=0.05,
            le=300,
            description="How long a new connection may take to send the head of its first request. 10 is "
            "ample for a phone on a bad line and ends connections that never say anything.",
        ),
    ] = 10
    handshake_seconds: Annotated[
        float,
        Meta(
            ge=0.05,
            le=300,
            description="How long a WebSocket handshake may take. 10, as for the request head; at its end "
            "the connection is closed, or a bad upgrade would stay open for ever.",
        ),
    ] = 10
    backlog: Annotated[
        int,
        Meta(
            ge=1,
            le=65535,
            description="Connections the kernel holds until they are accepted. 1024 takes a whole fleet "
            "that reconnects at once; the kernel lowers it to its own limit "
            "(net.core.somaxconn).",
        ),
    ] = 1024
    max_buffered_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=1024 * GIB,
            description="Most memory for audio buffers, outgoing queues and kept job audio together. 0 "
            "means a quarter of the machine's memory. Above it clients that send audio are told "
            "to pause, and new jobs are refused.",
        ),
    ] = 0
    ping_interval_seconds: Annotated[
        float,
        Meta(
            ge=0.05,
            le=3600,
            description="How often a socket is pinged. 20 keeps it open in proxies, which often cut a "
            "connection that is silent for 60 s (the default of nginx).",
        ),
    ] = 20
    idle_timeout_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=86400,
            description="A socket from which no frame came for so long is closed. 60 is three missed pings: "
            "a dead link is found within a minute and a short gap is forgiven.",
        ),
    ] = 60
    write_timeout_seconds: Annotated[
        float,
        Meta(
            ge=0.05,
            le=3600,
            description="A socket whose peer takes nothing for so long is closed. 10 is longer than any "
            "pause of a living network and short enough to hand a node's jobs to another.",
        ),
    ] = 10
