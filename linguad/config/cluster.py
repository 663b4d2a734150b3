"""Settings of several instances on one Redis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from linguad.config.base import GIB, MIB, Secret, Table
from linguad.config.store import Store


class Cluster(Table, frozen=True, kw_only=True):
    """Several instances that share one fleet through Redis. Without an address of Redis this one is alone."""

    redis_url: Annotated[
        Secret,
        Meta(
            description="Redis: `redis://user:password@host:6379/0`, `rediss://` for TLS, `unix:///path`, or "
            "sentinels: `redis+sentinel://user:password@host,host/master`. Empty: one instance alone, which "
            "needs no Redis. Never shown, because it may hold a password."
        ),
    ] = ""
    redis_urls: Annotated[
        tuple[str, ...],
        Meta(
            description="Some servers of a Redis Cluster, instead of `redis_url`; they name the others. "
            "Never shown.",
            extra={"secret": True},
        ),
    ] = ()
    sentinel_user: Annotated[
        str, Meta(description="User of the sentinels. Empty: they have no users, which is how they come.")
    ] = ""
    sentinel_password: Annotated[
        Secret,
        Meta(
            description="Password of the sentinels; that of Redis is in its address. Empty: they want none."
        ),
    ] = ""
    key_prefix: Annotated[
        str,
        Meta(
            description="Begins the name of every key in Redis. lingua, as in the earlier server, whose keys "
            "have another version; two installations on one Redis want two prefixes."
        ),
    ] = "lingua"
    instance_id: Annotated[
        str,
        Meta(
            description="Name of this instance, which no other may have. auto is host, process and a random "
            "part; `${NAME}` stands for a variable of the environment, such as the name of a pod."
        ),
    ] = "auto"
    address: Annotated[
        str,
        Meta(
            description="Where operators reach HTTP of this instance, such as `http://10.0.0.5:5010`; shown "
            "by `linguad cluster`, and used for nothing else."
        ),
    ] = ""
    heartbeat_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=60,
            description="How often an instance says that it lives; after twice as long without it the others "
            "take it for dead. 5: a kill is noticed within 11 s, and a pause of 5 s does no harm.",
        ),
    ] = 5
    max_unacknowledged_bytes: Annotated[
        int,
        Meta(
            ge=MIB,
            le=GIB,
            description="Most bytes on their way to one other instance; more is refused, so that an instance "
            "that stands still cannot fill Redis. 64 MiB is some 3 000 utterances.",
        ),
    ] = 64 * MIB
    max_deliveries: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="A letter in the inbox of a dead instance, which so many others took up without "
            "being done with it, is a dead letter. 3: one that ends its process does not end them all.",
        ),
    ] = 3
    dead_letters_kept: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Dead letters kept of each instance, oldest dropped first. 1 000 are some 300 KiB.",
        ),
    ] = 1000


def clashes(settings: Cluster, store: Store, *, gateway: bool) -> Iterator[tuple[str, str]]:
    """What cannot be together: settings and what is wrong with them (resolution 40)."""
    if settings.redis_url and settings.redis_urls:
        yield (
            "cluster.redis_urls",
            "is for a Redis Cluster, instead of cluster.redis_url; take one of them away",
        )
    several = settings.redis_url or settings.redis_urls
    if several and gateway and not store.shared and not store.url.startswith("postgres"):
        yield (
            "store.url",
            "is a file of SQLite, which instances with a gateway cannot share: give PostgreSQL; or "
            "store.shared = true if all run on this machine; or gateway.enabled = false",
        )
