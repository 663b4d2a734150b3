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
    require_https: Annotated[
        bool,
        Meta(
            description="Whether requests that came over plain HTTP are refused. HTTPS is what a proxy of "
            "server.trusted_proxies says it is; programs on this machine are exempt, since nothing of theirs "
            "travels. False, so that a first start works without a certificate; true where keys travel over "
            "a network."
        ),
    ] = False
    cors_allowed_origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Web pages that may call the API with the key or ticket of any tenant, as origins "
            'like "https://app.example.com"; each tenant may have more of its own. Empty, because a page '
            "elsewhere has no business with your customers' keys."
        ),
    ] = ()
    global_requests_per_second: Annotated[
        float,
        Meta(
            ge=0,
            le=1_000_000,
            description="Requests of all tenants together, per second and at once; more get 429. 0 is no "
            "limit: each tenant has its own, and that is what protects the others.",
        ),
    ] = 0
    failed_auth_limit: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="Wrong keys from one address (IPv6: one /64) within failed_auth_seconds; then it "
            "gets 429 for as long, whatever key it sends. 20 forgives a mistyped key and stops who guesses. "
            "0 stops nobody.",
        ),
    ] = 20
    failed_auth_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=86400,
            description="See failed_auth_limit. 60: long enough to make guessing useless, short enough for "
            "people who share an address with one that guesses.",
        ),
    ] = 60
    stream_allow_query_api_key: Annotated[
        bool,
        Meta(
            description="Whether `/v1/stream?api_key=KEY` is taken. False, because addresses end up in the "
            "logs of proxies and in the history of browsers; a ticket does the same and is worth nothing "
            "afterwards."
        ),
    ] = False
    ticket_ttl_seconds: Annotated[
        int,
        Meta(
            ge=1,
            le=120,
            description="How long a ticket of `POST /v1/stream/tickets` can be used if its request does not "
            "say. 60 lets a slow page load; a ticket opens one socket, which lives on after it.",
        ),
    ] = 60
    max_tickets: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Unused tickets of one tenant; more are refused until some were used or ran out. "
            "1000 is as many pages opened within a minute, and at most 1 MB.",
        ),
    ] = 1000
