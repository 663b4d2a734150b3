"""Settings of the public API."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from linguad.config.base import Table


class Gateway(Table, frozen=True, kw_only=True):
    """The public API: who may use it, how much, and for how long."""

    enabled: Annotated[
        bool,
        Meta(description="Whether this instance serves the public API. True, so that a first start has it."),
    ] = True
    host: Annotated[
        str,
        Meta(
            description="Address of the public API. Empty means all addresses of the machine, because apps "
            "call from elsewhere; `127.0.0.1` where only a proxy on this machine may call."
        ),
    ] = ""
    port: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="TCP port of the public API. 8081 is what existing apps call; 0 takes any free port "
            "(for tests).",
        ),
    ] = 8081
    production: Annotated[
        bool,
        Meta(
            description="Whether real customers are served. Then no key is made by itself, operators' own "
            "keys need 32 characters, and `/docs` is off. False, so that a first start works at once."
        ),
    ] = False
    pepper_file: Annotated[
        str,
        Meta(
            description="File with the secret by which keys are recognised; whoever has the database alone "
            "cannot test a guess. Empty means `pepper` in the state directory, made on first use. Instances "
            "with a common database need the same one."
        ),
    ] = ""
