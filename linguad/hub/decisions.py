"""Below `/api/admin/`: choose versions, take them back and sign them (model-hub 11.4, 11.5)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from quart import Response, request

from linguad.core.tenant import Scope
from linguad.hub import listing
from linguad.hub.access import Who
from linguad.hub.answers import HubProblem
from linguad.hub.app import HubApp, body, plain
from linguad.hub.catalog import Catalog
from linguad.hub.desk import Desk, Kind
from linguad.hub.names import is_channel
from linguad.hub.records import Record, Signature, Status
from linguad.hub.signing import BadSignature, SigningKey, model_payload, package_payload


class _Choice(msgspec.Struct):
    version: str


class _Deprecation(msgspec.Struct):
    message: str = ""
    replacement: str | None = None


class _Yank(msgspec.Struct):
    reason: str = ""
    replacement: str | None = None
    block_downloads: bool = False


def add_decision_routes(hub: HubApp, desk: Desk) -> None:
    """Choose versions and take them back."""
    app, catalog = hub.app, hub.catalog

    @app.put("/api/admin/models/<name>/default", defaults={"kind": "model"})
    @app.put("/api/admin/services/<name>/default", defaults={"kind": "service"})
    async def default(kind: Kind, name: str) -> Response:
        who = hub.who(Scope.HUB_VERSIONS)
        version = (await body(_Choice)).version
        desk.offered(kind, name, version)
        wanted = request.headers.get("If-Match", "*")
        if wanted.strip() != "*" and catalog.current.etag not in wanted:
            raise HubProblem(412, "precondition_failed", "The catalogue has changed; read it again.")

        def work(record: Record) -> None:
            record.default = version

        return await desk.decided(who, kind, name, version, "default", work)

    @app.put("/api/admin/models/<name>/channels/<channel>", defaults={"kind": "model"})
    @app.put("/api/admin/services/<name>/channels/<channel>", defaults={"kind": "service"})
    async def channel(kind: Kind, name: str, channel: str) -> Response:
        who = hub.who(Scope.HUB_VERSIONS)
        if not is_channel(channel):
            raise HubProblem.wrong_field("channel", "must be a word like stable or beta")
        version = (await body(_Choice)).version
        desk.offered(kind, name, version)

        def work(record: Record) -> None:
            record.channels[channel] = version

        return await desk.decided(who, kind, name, version, f"channel.{channel}", work)

    @app.post("/api/admin/models/<name>/versions/<version>/deprecate", defaults={"kind": "model"})
    @app.post("/api/admin/services/<name>/<version>/deprecate", defaults={"kind": "service"})
    async def deprecate(kind: Kind, name: str, version: str) -> Response:
        who = hub.who(Scope.HUB_VERSIONS)
        said = await body(_Deprecation, empty=b"{}")
        work = _mark(version, "deprecated", said.message, said.replacement, block=False)
        desk.known(kind, name, version)
        return await desk.decided(who, kind, name, version, "deprecate", work)

    @app.post("/api/admin/models/<name>/versions/<version>/yank", defaults={"kind": "model"})
    @app.post("/api/admin/services/<name>/<version>/yank", defaults={"kind": "service"})
    async def yank(kind: Kind, name: str, version: str) -> Response:
        who = hub.who(Scope.HUB_VERSIONS)
        said = await body(_Yank, empty=b"{}")
        work = _mark(version, "yanked", said.reason, said.replacement, block=said.block_downloads)
        desk.known(kind, name, version)
        return await desk.decided(who, kind, name, version, "yank", work)


def add_signature_routes(hub: HubApp, desk: Desk) -> None:
    """Sign what is published, and say whose signatures count."""
    app, catalog = hub.app, hub.catalog

    @app.put("/api/admin/models/<model_id>/versions/<version>/signature")
    async def sign_model(model_id: str, version: str) -> Response:
        who = hub.who(Scope.HUB_SIGN)
        info = listing.version(catalog.current, model_id, version).info
        if not info.manifest_sha256:
            raise HubProblem(409, "not_hashed", "Its digests are not known yet; try again.")
        payload = model_payload(model_id, info.version, info.manifest_sha256)
        return await _sign(desk, catalog, who, "model", model_id, info.version, "", payload)

    @app.put("/api/admin/services/<service_id>/<version>/<platform>/signature")
    async def sign_package(service_id: str, version: str, platform: str) -> Response:
        who = hub.who(Scope.HUB_SIGN)
        entry = listing.service(catalog.current, service_id).variants.get((version, platform))
        if entry is None:
            raise HubProblem(404, "variant_not_found", "Service variant not found")
        payload = package_payload(service_id, version, platform, entry.file.sha256)
        return await _sign(desk, catalog, who, "service", service_id, version, platform, payload)

    @app.put("/api/admin/keys/<key_id>")
    async def key(key_id: str) -> Response:
        who = hub.who(Scope.HUB_ADMIN)
        given = await body(dict)
        given["key_id"] = key_id
        try:
            made = msgspec.convert(given, SigningKey)
            await catalog.put_key(made)
        except (msgspec.ValidationError, BadSignature) as error:
            raise HubProblem(422, "invalid_field", str(error)) from None
        await desk.note(who, "key", key_id, {"status": made.status})
        return plain(catalog.keys.listed())


async def _sign(
    desk: Desk,
    catalog: Catalog,
    who: Who,
    kind: Kind,
    name: str,
    version: str,
    platform: str,
    payload: dict[str, str],
) -> Response:
    signature = await body(Signature)
    try:
        catalog.keys.check(signature, payload)
    except BadSignature as error:
        raise HubProblem(422, "signature_invalid", str(error)) from None

    def work(record: Record) -> None:
        record.version(version).signatures[platform] = signature

    return await desk.decided(who, kind, name, version, "sign", work)


def _mark(
    version: str, status: Status, message: str, replacement: str | None, *, block: bool
) -> Callable[[Record], None]:
    def work(record: Record) -> None:
        own = record.version(version)
        own.status, own.message, own.replacement = status, message or None, replacement
        own.block_downloads = block
        if status == "yanked":
            record.channels = {name: one for name, one in record.channels.items() if one != version}
            record.default = None if record.default == version else record.default

    return work
