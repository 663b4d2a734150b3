"""The check list of a deployment, as `linguad doctor --deployment` ticks it off."""

from __future__ import annotations

from collections.abc import Iterator

from linguad.commands.checks import Finding, answers_health, bad, get, good, warning
from linguad.config import Config

GOOD_TOKEN_CHARS = 32
"""An admin token of fewer characters can be guessed."""

MUST_BE_SCRAPED = "linguad_nodes"
"""A metric that every instance has."""


async def check_deployment(config: Config) -> list[Finding]:
    """What should hold before real people are let in."""
    return [*await _running(config), *_settings(config)]


async def _running(config: Config) -> list[Finding]:
    """Whether the daemon runs, is ready and can be watched."""
    host, port = config.server.host, config.server.port
    if not await answers_health(host, port):
        cure = "Start it: systemctl start linguad; then look at journalctl -u linguad."
        return [bad("health", f"No linguad answers on port {port}.", cure)]
    found = [good("health", f"linguad answers on port {port}.")]
    status, body = await get(host, port, "/ready")
    if status != 200:
        found.append(bad("ready", f"It wants no traffic: {body}", "Wait for its start, or see its log."))
    elif '"degraded":[]' not in body.replace(" ", ""):
        found.append(warning("ready", f"It works with less than it should: {body}", "See degraded in there."))
    else:
        found.append(good("ready", "It takes traffic."))
    _, metrics = await get(host, port, "/metrics")
    if MUST_BE_SCRAPED in metrics:
        found.append(good("metrics", "Prometheus can be pointed at /metrics."))
    else:
        found.append(bad("metrics", "/metrics lacks what the alerts use.", "See what answers on this port."))
    return found


def _settings(config: Config) -> Iterator[Finding]:
    """Whether the settings are those of a server for real people."""
    server, gateway = config.server, config.gateway
    if 0 < len(server.admin_token) < GOOD_TOKEN_CHARS:
        yield bad(
            "admin token",
            f"It has {len(server.admin_token)} characters.",
            "Make one with: openssl rand -hex 32; or leave it out, and linguad makes one.",
        )
    else:
        yield good("admin token", "It is long enough, or made by linguad.")
    if gateway.enabled and not gateway.production:
        cure = "Set gateway.production = true."
        yield bad("production", "The public API makes keys by itself and takes short ones.", cure)
    if gateway.enabled and not gateway.require_https:
        cure = "Set gateway.require_https = true, and server.trusted_proxies to the network of your proxy."
        yield warning("https", "Keys may be sent over plain HTTP.", cure)
    elif gateway.enabled and not server.trusted_proxies:
        cure = "Set server.trusted_proxies to its network."
        yield bad("https", "HTTPS is asked for, but no proxy is trusted to say that it was used.", cure)
    if config.nodes.require_gpu == "never":
        cure = 'Set nodes.require_gpu = "always", unless CPU nodes are meant to serve.'
        yield warning("gpu", "Nodes without a GPU may serve people.", cure)
    else:
        yield good("gpu", f"Nodes need a GPU: {config.nodes.require_gpu}.")
    if config.log.level == "debug":
        yield warning("log", "Everything is logged, which fills disks.", 'Set log.level = "info".')
