"""Settings of the model hub."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from linguad.config.base import GIB, MIB, Table


class Hub(Table, frozen=True, kw_only=True):
    """The model hub: which files it publishes, to whom, and who may publish."""

    enabled: Annotated[
        bool,
        Meta(description="Whether this instance serves the hub. True, so that nodes find models at once."),
    ] = True
    host: Annotated[
        str,
        Meta(
            description="Address of the hub. Empty means all addresses of the machine, because nodes come "
            "from elsewhere."
        ),
    ] = ""
    port: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="TCP port of the hub. 5000 is what existing nodes and schedulers ask; 0 takes any "
            "free port (for tests).",
        ),
    ] = 5000
    models_dir: Annotated[
        str,
        Meta(
            description="Directory of models and packages. Empty means $MODELS_DIR, which existing set-ups "
            "have, else `models` in the state directory."
        ),
    ] = ""
    rescan_seconds: Annotated[
        float,
        Meta(
            ge=0.05,
            le=86400,
            description="How often the directory is looked at for files that somebody put there. Only what "
            "changed is read again; 60 is soon enough for files copied by hand.",
        ),
    ] = 60
    public_read: Annotated[
        bool,
        Meta(
            description="Whether everybody may list and download. True, because existing nodes have no "
            "token; false asks for a key with scope hub:read."
        ),
    ] = True
    cors: Annotated[
        tuple[str, ...],
        Meta(
            description="Origins of web pages that may read from the hub, such as `https://example.org`; "
            "`*` lets every page read what is public, without credentials. Empty, because nodes "
            "are no browsers."
        ),
    ] = ()
    redirect_base: Annotated[
        str,
        Meta(
            description="Base URL of a CDN or object store that holds the same paths; downloads are then "
            "answered with 302 to it, after access was checked. Empty means that the hub sends "
            "the files itself. `?direct=1` always gets the file from the hub, which is what a CDN "
            "should ask for."
        ),
    ] = ""
    max_downloads: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Downloads at once; more are answered 503 with Retry-After, upon which nodes try "
            "again. 1024 leaves descriptors for everything else.",
        ),
    ] = 1024
    max_downloads_per_caller: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Downloads at once of one key or node id. 24 is eight times what existing nodes do.",
        ),
    ] = 24
    max_downloads_per_address: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Downloads at once of one address without a key. 640 lets 200 nodes behind one "
            "address fetch three files each.",
        ),
    ] = 640
    requests_per_second: Annotated[
        float,
        Meta(
            ge=0.1,
            le=1_000_000,
            description="Lists and details per key, node id or address. 200 lets 1000 nodes behind one "
            "address ask with every heartbeat (15 s); four times as many may come at once.",
        ),
    ] = 200
    max_package_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=1024 * GIB,
            description="Largest package, and largest version of a model, that can be published. 20 GiB is "
            "twice the largest one there is.",
        ),
    ] = 20 * GIB
    max_chunk_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=64 * GIB,
            description="Most bytes in one part of an upload. 64 MiB is what a broken connection costs.",
        ),
    ] = 64 * MIB
    upload_hours: Annotated[
        float,
        Meta(
            ge=0.001,
            le=8760,
            description="How long an unfinished upload is kept. 24 lets somebody go on the next day.",
        ),
    ] = 24
    trash_days: Annotated[
        float,
        Meta(
            ge=0,
            le=3650,
            description="How long what was deleted can still be taken back by hand from `_trash`. A week.",
        ),
    ] = 7
    signing_required: Annotated[
        bool,
        Meta(
            description="Whether only packages with a valid signature are offered. False, because existing "
            "packages have none."
        ),
    ] = False
    allowed_programs: Annotated[
        tuple[str, ...],
        Meta(
            description="Programs of the system that a package may start; all others must be inside it. The "
            "two names of Python are what existing packages use."
        ),
    ] = ("python", "python3")
    anonymous_usage: Annotated[
        bool,
        Meta(
            description="Whether usage may be reported without a key. True, because nodes have none and a "
            "ranking without them says nothing."
        ),
    ] = True
    url: Annotated[
        str,
        Meta(
            description="Address of another hub, such as `http://hub:5000`, whose services the pages of an "
            "instance without a hub show. Empty means $MODEL_HUB_URL, which existing set-ups have, else "
            "none; an instance with a hub knows its own."
        ),
    ] = ""
