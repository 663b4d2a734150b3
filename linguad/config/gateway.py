"""Settings of the public API."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from linguad.config.base import LIVE, Table


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
        LIVE,
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
        LIVE,
        Meta(
            ge=0,
            le=1_000_000,
            description="Requests of all tenants together to this instance, per second and at once; more get "
            "429. 0 is no limit: each tenant has its own, and that is what protects the others.",
        ),
    ] = 0
    limits_fail_mode: Annotated[
        Literal["open", "closed"],
        LIVE,
        Meta(
            description="With several instances, what holds while Redis cannot be asked for what all of them "
            "let a tenant do. open: each instance keeps to the tenant's limits by itself, so that customers "
            "are served; closed: requests get 503, so that nobody ever gets more than he may."
        ),
    ] = "open"
    failed_auth_limit: Annotated[
        int,
        LIVE,
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
        LIVE,
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
    webhook_timeout_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=60,
            description="How long one try of a delivery to a webhook may take, name and TLS included. 10 is "
            "ample for a receiver that answers first and works afterwards.",
        ),
    ] = 10
    webhook_max_attempts: Annotated[
        int,
        Meta(
            ge=1,
            le=9,
            description="Tries of a delivery, after which it has failed. 9 are the first one and the eight "
            "documented retries, the last after nearly two days.",
        ),
    ] = 9
    webhook_allowed_networks: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks (CIDR) that webhooks may lead to although they are not on the public "
            "internet, also by plain http. Empty, because whoever has a key could otherwise make this "
            'server call machines that only it can reach. Example: ["10.1.2.0/24"].'
        ),
    ] = ()
    webhooks_at_once: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Tries of deliveries to all webhooks at once; one webhook has at most 4. 32 keep a "
            "few dead receivers from holding up the others.",
        ),
    ] = 32
    webhook_history_days: Annotated[
        float,
        Meta(
            ge=0.01,
            le=366,
            description="How many days deliveries that have ended can be looked at and sent again. 7, so "
            "that what went wrong over a holiday can still be repaired.",
        ),
    ] = 7
    translate_timeout_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=3600,
            description="How long a caller of `/v1/speech/translate` waits for the translation before it "
            "gets 504. 150, as long as a job may live: enough for a second and a third node when the first "
            "is silent.",
        ),
    ] = 150
    max_utterance_seconds: Annotated[
        int,
        Meta(
            ge=1,
            le=600,
            description="Longest utterance that goes to a node in one piece. A longer recording is cut as "
            "streamed speech is; a stream that sends whole utterances has to send shorter ones. 30 is what "
            "speech recognition takes at once.",
        ),
    ] = 30
    billing_overdraft_seconds: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000_000,
            description="How far the balance of a prepaid tenant may fall below 0 before new requests are "
            "refused with 402. 18000 (300 minutes of speech) is the floor of the earlier billing rules.",
        ),
    ] = 18_000
    billing_credit_superseded: Annotated[
        bool,
        Meta(
            description="Whether a node is credited for work that another node finished first. False: what "
            "nobody gets is not paid; true where second attempts (jobs.hedge_percent) are made often."
        ),
    ] = False
    stream_allow_first_message_auth: Annotated[
        bool,
        Meta(
            description="Whether an app may connect to `/v1/stream` with subprotocol `lingua.v1` and send "
            "its key in the first message. True, because the sockets of some engines can do nothing else; "
            "what strangers can cost is limited by stream_max_unauthenticated."
        ),
    ] = True
    stream_max_unauthenticated: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description="Sockets that have not said who they are; more get 429. 100 is plenty, since each "
            "has stream_start_seconds, and 8 KiB per message.",
        ),
    ] = 100
    stream_start_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=600,
            description="How long a socket may be without a session before it is closed (4408). 10 is more "
            "than any app takes over `start`; idle sockets cost memory.",
        ),
    ] = 10
    stream_idle_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=86400,
            description="How long a session may be without audio before it is ended (4408), which gives its "
            "slot back. 300 lets people pause.",
        ),
    ] = 300
    stream_max_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=604800,
            description="How long a socket may live. 14400 (4 h) is a long conference; it bounds what a "
            "forgotten app can cost.",
        ),
    ] = 14400
    stream_answer_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=3600,
            description="How long an utterance is waited for, also at the end of a session. 170 is "
            "jobs.job_max_age_seconds (150) and some more: it counts only if the core does not answer.",
        ),
    ] = 170
    stream_max_message_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=1 << 26,
            description="Longest message of an app; a longer one closes its socket (1009). 2097152 (2 MiB) "
            "holds 30 s of PCM16 at 16 kHz as base64, and more.",
        ),
    ] = 2 * 1024 * 1024
    stream_max_inflight_utterances: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Utterances of a session that nodes work on at once; what comes meanwhile waits. 4 "
            "keeps the network busy, and one app from taking all of it.",
        ),
    ] = 4
    stream_backlog_bytes: Annotated[
        int,
        Meta(
            ge=1,
            le=1 << 30,
            description="Audio of a session that may wait for its turn; then its socket is not read until "
            "there is room. 4194304 (4 MiB) is two minutes of PCM16.",
        ),
    ] = 4 * 1024 * 1024
    stream_max_messages_per_second: Annotated[
        float,
        Meta(
            ge=0.1,
            le=100_000,
            description="Messages of one socket per second; more are dropped with `rate_limited`, and three "
            "within 10 s close it (1008). 60 takes pieces of 20 ms.",
        ),
    ] = 60
    stream_burst_messages: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Messages of one socket at once. 120 makes up for two seconds of a line that stalls.",
        ),
    ] = 120
    stream_ping_interval_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=3600,
            description="How often an app that is quiet is pinged. 20 keeps the ways through NAT and proxies "
            "open.",
        ),
    ] = 20
    stream_silent_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=3600,
            description="How long an app may send nothing, not even the answer to a ping, before its socket "
            "is closed. 45 is two missed pings and some more.",
        ),
    ] = 45
    stream_outbound_queue_messages: Annotated[
        int,
        Meta(
            ge=8,
            le=1_000_000,
            description="Messages that may wait for an app that reads slowly; then it is closed (4413). 256 "
            "covers a stall of a phone; `partial` and `event` give way first.",
        ),
    ] = 256
    stream_outbound_queue_bytes: Annotated[
        int,
        Meta(
            ge=65536,
            le=1 << 30,
            description="Bytes that may wait for an app, as stream_outbound_queue_messages. 16777216 (16 "
            "MiB) are six minutes of speech as PCM16.",
        ),
    ] = 16 * 1024 * 1024
    jobs_max_upload_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=1 << 30,
            description="Largest body of an asynchronous translation. 52428800 (50 MiB) is 27 minutes of "
            "PCM16 at 16 kHz.",
        ),
    ] = 50 * 1024 * 1024
    jobs_at_once: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Asynchronous translations that this instance works on at once. 4, so that the "
            "nodes are left to people who wait for an answer.",
        ),
    ] = 4
    jobs_at_once_per_tenant: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Of these, the most of one tenant; each counts as one of its sessions. 2, so that "
            "one tenant's night shift does not keep out the others.",
        ),
    ] = 2
    jobs_queued_per_tenant: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Asynchronous translations of one tenant that may wait; more get 429. 100 is an hour "
            "of work.",
        ),
    ] = 100
    jobs_queued_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=1 << 50,
            description="Recordings that may wait in the state directory, of all tenants together; more get "
            "503. 4294967296 (4 GiB), which nearly every disk has to spare.",
        ),
    ] = 4 * 1024 * 1024 * 1024
    jobs_retention_hours: Annotated[
        float,
        Meta(
            ge=0.01,
            le=8784,
            description="How many hours the result of an asynchronous translation can be had, unless it is "
            "deleted before. 24, as documented.",
        ),
    ] = 24
    jobs_max_audio_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=3600,
            description="Longest recording of an asynchronous job. 600: it is one session whose parts are "
            "kept until the last of them is translated.",
        ),
    ] = 600
