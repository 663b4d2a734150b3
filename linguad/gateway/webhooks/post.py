"""How a delivery goes out: one guarded POST, never a redirect, in ten seconds (gateway 11.5)."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress

import trio

from linguad.core.webhooks import GONE
from linguad.gateway.webhooks.courier import Sent
from linguad.net.guard import AddressRefused, Guard
from linguad.net.http_client import HttpError, Limits, parse, request

READ_BYTES = 1024
"""Of an answer; the rest is ignored."""

CHECK_SECONDS = 5.0
"""How long the name of a new webhook may take to be looked up."""


class GuardedPost:
    """Sends to public addresses by https, and to the allowed networks also by http."""

    def __init__(
        self, allowed_networks: Iterable[str], try_seconds: float, tls: ssl.SSLContext | None = None
    ) -> None:
        """`tls` replaces the system's certificate authorities. Raises ValueError for what is no network."""
        networks = list(allowed_networks)
        self._guard = Guard(networks)
        self._listed = Guard(networks, public=False)
        self._tls = tls
        self._limits = Limits(
            connect_seconds=try_seconds,
            headers_seconds=try_seconds,
            idle_seconds=try_seconds,
            whole_seconds=try_seconds,
        )

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> Sent:
        """Send; what comes back is the status, or why there is none."""
        try:
            async with request(
                "POST",
                url,
                headers=headers,
                body=body,
                guard=self._guard_for(url),
                tls=self._tls,
                limits=self._limits,
            ) as answer:
                with suppress(HttpError):
                    await answer.start(READ_BYTES)
                return Sent(_outcome(answer.status), answer.status)
        except AddressRefused as error:
            return Sent("refused", error=str(error))
        except HttpError as error:
            return Sent(error.kind, error=str(error))

    async def check(self, url: str) -> None:
        """Look whether a URL could be sent to. Raises HttpError or AddressRefused with what to do."""
        target = parse(url)
        with trio.move_on_after(CHECK_SECONDS) as limit:
            await self._guard_for(url).resolve(target.host, target.port)
        if limit.cancelled_caught:
            raise AddressRefused(
                f"the name {target.host} was not found in {CHECK_SECONDS:g} s; try again later"
            )

    def _guard_for(self, url: str) -> Guard:
        return self._guard if parse(url).tls else self._listed


def _outcome(status: int) -> str:
    if 200 <= status < 300:
        return "delivered"
    if 300 <= status < 400:
        return "redirect"
    return "gone" if status == GONE else "status"
