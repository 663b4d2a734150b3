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
    max_upload_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=1 << 30,
            description="Largest body of a translation; a tenant may have its own limit. 10485760 (10 MiB) "
            "is five minutes of PCM16 at 16 kHz and bounds the memory that one request takes.",
        ),
    ] = 10 * 1024 * 1024
    max_audio_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=3600,
            description="Longest audio of a translation. 120 is a long voice message, and its result still "
            "comes within the time that an answer may take.",
        ),
    ] = 120
    body_seconds: Annotated[
        float,
        Meta(
            ge=0.05,
            le=600,
            description="How long the body of a translation may take to come. 30 lets 10 MiB through a line "
            "of 3 Mbit/s and ends clients that send a byte now and then.",
        ),
    ] = 30
