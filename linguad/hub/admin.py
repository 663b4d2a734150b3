"""Below `/api/admin/`: describe, publish, choose, take back, sign and delete (model-hub 11)."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
import trio
from quart import Response, request

from linguad.core.accounts import Actor
from linguad.core.tenant import Scope
from linguad.hub import listing
from linguad.hub.access import Who
from linguad.hub.answers import HubProblem
from linguad.hub.app import HubApp, body, moment, number, plain
from linguad.hub.disk import make_directories, sync_directory
from linguad.hub.entries import OFFERED
from linguad.hub.hasher import Hasher
from linguad.hub.names import TASKS, is_channel, is_id
from linguad.hub.publishing import Publisher
from linguad.hub.records import Record, Signature, Status
from linguad.hub.signing import BadSignature, SigningKey, model_payload, package_payload
from linguad.hub.uploads import NewVersion, Upload, Uploads
from linguad.web.app import request_id

MAX_WAIT_SECONDS = 120
Kind = Literal["model", "service"]


class _Described(msgspec.Struct):
    name: str | None = None
    task: str | None = None
    languages: tuple[str, ...] | None = None
    description: str | None = None
    tags: tuple[str, ...] | None = None
    license: str | None = None


class _Choice(msgspec.Struct):
    version: str


class _Deprecation(msgspec.Struct):
    message: str = ""
    replacement: str | None = None


class _Yank(msgspec.Struct):
    reason: str = ""
    replacement: str | None = None
    block_downloads: bool = False


class Admin:
    """The routes below `/api/admin/`."""

    def __init__(
        self,
        hub: HubApp,
        uploads: Uploads,
        publisher: Publisher,
        hasher: Hasher,
        tasks: Callable[[], trio.Nursery],
    ) -> None:
        self._hub = hub
        self._catalog = hub.catalog
        self._uploads = uploads
        self._publisher = publisher
        self._hasher = hasher
        self._tasks = tasks
        self._add_models()
        self._add_uploads()
        self._add_decisions()
        self._add_signatures()
        self._add_operations()

    def _add_models(self) -> None:
        app = self._hub.app

        @app.put("/api/admin/models/<model_id>")
        async def describe(model_id: str) -> Response:
            who = self._hub.who(Scope.HUB_PUBLISH)
            if not is_id(model_id):
                raise HubProblem.wrong_field("id", "must be letters, digits, . _ - (128 at most)")
            said = await body(_Described)
            if said.task is not None and said.task not in TASKS:
                raise HubProblem.wrong_field("task", f"must be one of {', '.join(TASKS)}")
            known = model_id in self._catalog.current.models
            given = {name: value for name, value in msgspec.structs.asdict(said).items() if value is not None}

            def work(record: Record) -> None:
                for name, value in given.items():
                    setattr(record, name, value)

            await self._decide(who, "model", model_id, "", "describe", work, given)
            return plain(self._catalog.current.models[model_id].info, 200 if known else 201)

        @app.post("/api/admin/models/<model_id>/versions")
        async def new_version(model_id: str) -> Response:
            return await self._new_upload("model", model_id)

        @app.post("/api/admin/services/<service_id>/versions")
        async def new_package(service_id: str) -> Response:
            return await self._new_upload("service", service_id)

        @app.delete("/api/admin/models/<model_id>/versions/<version>")
        async def delete_version(model_id: str, version: str) -> Response:
            who = self._hub.who(Scope.HUB_ADMIN)
            entry = listing.version(self._catalog.current, model_id, version)
            model = self._catalog.current.models[model_id]
            chosen = model.record.default == version or version in model.record.channels.values()
            if chosen or (len(model.info.versions) > 1 and model.info.default_version == version):
                raise HubProblem(
                    409, "version_in_use", "The default or a channel is this version; change that."
                )
            where = next(iter(entry.files.values())).where.removesuffix(f"/{next(iter(entry.files))}")
            if not where.startswith("storage/"):
                raise HubProblem(409, "not_published", "It lies in an old directory; remove its files there.")
            await self._trash(who, "model", model_id, version, where)
            return Response(b"", 204)

        @app.delete("/api/admin/services/<service_id>/<version>/<platform>")
        async def delete_package(service_id: str, version: str, platform: str) -> Response:
            who = self._hub.who(Scope.HUB_ADMIN)
            if (version, platform) not in listing.service(self._catalog.current, service_id).variants:
                raise HubProblem(404, "variant_not_found", "Service variant not found")
            where = f"services/{service_id}/{version}/{platform}"
            await self._trash(who, "service", service_id, version, where)
            return Response(b"", 204)

    def _add_uploads(self) -> None:
        app = self._hub.app

        @app.get("/api/admin/uploads/<upload_id>")
        async def progress(upload_id: str) -> Response:
            self._hub.who(Scope.HUB_PUBLISH)
            return plain(await self._progress(self._uploads.get(upload_id)))

        @app.delete("/api/admin/uploads/<upload_id>")
        async def abort(upload_id: str) -> Response:
            self._hub.who(Scope.HUB_PUBLISH)
            await self._uploads.abort(self._uploads.get(upload_id))
            return Response(b"", 204)

        @app.route("/api/admin/uploads/<upload_id>/files/<path:path>", methods=["GET", "HEAD"])
        async def offset(upload_id: str, path: str) -> Response:
            self._hub.who(Scope.HUB_PUBLISH)
            upload = self._uploads.get(upload_id)
            length = upload.file(path).size_bytes
            at = await self._uploads.offset(upload, path)
            response = plain({"offset": at, "length": length})
            response.headers["Upload-Offset"] = str(at)
            response.headers["Upload-Length"] = str(length)
            response.headers["Cache-Control"] = "no-store"
            return response

        @app.post("/api/admin/uploads/<upload_id>/commit")
        async def commit(upload_id: str) -> Response:
            who = self._hub.who(Scope.HUB_PUBLISH)
            upload = self._uploads.get(upload_id)
            wait = number("wait", 0, 0, MAX_WAIT_SECONDS)
            if upload.state == "committed" or self._publisher.is_published(upload):
                upload.state = "committed"
                return plain(await self._progress(upload))
            self._publisher.begin(upload)
            done = trio.Event()
            self._tasks().start_soon(self._commit, who, upload, done)
            with trio.move_on_after(wait):
                await done.wait()
            if not done.is_set():
                return plain({"status_url": f"/api/admin/uploads/{upload_id}"}, 202)
            if upload.failed is None:
                return plain(await self._progress(upload), 201)
            taken = upload.failed["file"] == "" and "other content" in upload.failed["reason"]
            raise HubProblem(
                409 if taken else 422,
                "version_exists" if taken else "upload_invalid",
                f"Not published: {upload.failed['file']} {upload.failed['reason']}".replace("  ", " "),
                retryable=False,
                details=upload.failed,
            )

    def _add_decisions(self) -> None:
        app = self._hub.app

        @app.put("/api/admin/models/<name>/default", defaults={"kind": "model"})
        @app.put("/api/admin/services/<name>/default", defaults={"kind": "service"})
        async def default(kind: Kind, name: str) -> Response:
            who = self._hub.who(Scope.HUB_VERSIONS)
            version = (await body(_Choice)).version
            self._offered(kind, name, version)
            if (wanted := request.headers.get("If-Match")) and self._catalog.current.etag not in wanted:
                raise HubProblem(412, "precondition_failed", "The catalogue has changed; read it again.")

            def work(record: Record) -> None:
                record.default = version

            return await self._decided(who, kind, name, version, "default", work)

        @app.put("/api/admin/models/<name>/channels/<channel>", defaults={"kind": "model"})
        @app.put("/api/admin/services/<name>/channels/<channel>", defaults={"kind": "service"})
        async def channel(kind: Kind, name: str, channel: str) -> Response:
            who = self._hub.who(Scope.HUB_VERSIONS)
            if not is_channel(channel):
                raise HubProblem.wrong_field("channel", "must be a word like stable or beta")
            version = (await body(_Choice)).version
            self._offered(kind, name, version)

            def work(record: Record) -> None:
                record.channels[channel] = version

            return await self._decided(who, kind, name, version, f"channel.{channel}", work)

        @app.post("/api/admin/models/<name>/versions/<version>/deprecate", defaults={"kind": "model"})
        @app.post("/api/admin/services/<name>/<version>/deprecate", defaults={"kind": "service"})
        async def deprecate(kind: Kind, name: str, version: str) -> Response:
            who = self._hub.who(Scope.HUB_VERSIONS)
            said = await body(_Deprecation, empty=b"{}")
            work = _mark(version, "deprecated", said.message, said.replacement, block=False)
            self._known(kind, name, version)
            return await self._decided(who, kind, name, version, "deprecate", work)

        @app.post("/api/admin/models/<name>/versions/<version>/yank", defaults={"kind": "model"})
        @app.post("/api/admin/services/<name>/<version>/yank", defaults={"kind": "service"})
        async def yank(kind: Kind, name: str, version: str) -> Response:
            who = self._hub.who(Scope.HUB_VERSIONS)
            said = await body(_Yank, empty=b"{}")
            work = _mark(version, "yanked", said.reason, said.replacement, block=said.block_downloads)
            self._known(kind, name, version)
            return await self._decided(who, kind, name, version, "yank", work)

    def _add_signatures(self) -> None:
        app = self._hub.app

        @app.put("/api/admin/models/<model_id>/versions/<version>/signature")
        async def sign_model(model_id: str, version: str) -> Response:
            who = self._hub.who(Scope.HUB_SIGN)
            info = listing.version(self._catalog.current, model_id, version).info
            if not info.manifest_sha256:
                raise HubProblem(409, "not_hashed", "Its digests are not known yet; try again.")
            payload = model_payload(model_id, info.version, info.manifest_sha256)
            return await self._sign(who, "model", model_id, info.version, "", payload)

        @app.put("/api/admin/services/<service_id>/<version>/<platform>/signature")
        async def sign_package(service_id: str, version: str, platform: str) -> Response:
            who = self._hub.who(Scope.HUB_SIGN)
            entry = listing.service(self._catalog.current, service_id).variants.get((version, platform))
            if entry is None:
                raise HubProblem(404, "variant_not_found", "Service variant not found")
            payload = package_payload(service_id, version, platform, entry.file.sha256)
            return await self._sign(who, "service", service_id, version, platform, payload)

        @app.put("/api/admin/keys/<key_id>")
        async def key(key_id: str) -> Response:
            who = self._hub.who(Scope.HUB_ADMIN)
            given = await body(dict)
            given["key_id"] = key_id
            try:
                made = msgspec.convert(given, SigningKey)
                await self._catalog.put_key(made)
            except (msgspec.ValidationError, BadSignature) as error:
                raise HubProblem(422, "invalid_field", str(error)) from None
            await self._note(who, "key", key_id, {"status": made.status})
            return plain(self._catalog.keys.listed())

    def _add_operations(self) -> None:
        app = self._hub.app

        @app.post("/api/admin/rescan")
        async def rescan() -> Response:
            self._hub.who(Scope.HUB_ADMIN)
            await self._catalog.rescan(full=True)
            return plain({"revision": self._catalog.current.revision}, 202)

        @app.get("/api/admin/problems")
        async def problems() -> Response:
            self._hub.who(Scope.HUB_ADMIN)
            told = [{"path": path, "problem": problem} for path, problem in self._catalog.current.problems]
            return plain(told)

        @app.post("/api/admin/verify")
        async def verify() -> Response:
            self._hub.who(Scope.HUB_ADMIN)
            asked = request.args.get("model_id")
            if asked is not None:
                listing.model(self._catalog.current, asked)
            names = [asked] if asked else list(self._catalog.current.models)
            self._tasks().start_soon(self._hasher.verify, names)
            return plain({"models": len(names)}, 202)

        @app.get("/api/admin/audit")
        async def audit() -> Response:
            self._hub.who(Scope.HUB_ADMIN)
            since = request.args.get("since")
            at = moment("since", since, 0.0) if since else None
            return plain(await self._hub.records.trail(at, number("limit", 50, 1, 1000)))

    async def _new_upload(self, kind: Kind, name: str) -> Response:
        self._hub.who(Scope.HUB_PUBLISH)
        wanted = await body(NewVersion)
        if wanted.channel is not None and not is_channel(wanted.channel):
            raise HubProblem.wrong_field("channel", "must be a word like stable or beta")
        upload, missing = await self._uploads.begin(kind, name, wanted)
        return plain(
            {"upload_id": upload.id, "expires_at": _time(upload.expires_at), "missing": missing}, 201
        )

    async def _progress(self, upload: Upload) -> dict[str, object]:
        files = []
        for file in upload.wanted.files:
            whole = upload.state == "committed"
            at = file.size_bytes if whole else await self._uploads.offset(upload, file.path)
            files.append({"path": file.path, "offset": at, "length": file.size_bytes})
        return {
            "upload_id": upload.id,
            "kind": upload.kind,
            "id": upload.name,
            "version": upload.wanted.version,
            "state": upload.state,
            "failed": upload.failed,
            "expires_at": _time(upload.expires_at),
            "files": files,
        }

    async def _commit(self, who: Who, upload: Upload, done: trio.Event) -> None:
        try:
            await self._publisher.commit(upload)
            if upload.state == "committed":
                await self._note(who, f"{upload.kind}.publish", f"{upload.name}@{upload.wanted.version}", {})
        finally:
            done.set()

    async def _sign(
        self, who: Who, kind: Kind, name: str, version: str, platform: str, payload: dict[str, str]
    ) -> Response:
        signature = await body(Signature)
        try:
            self._catalog.keys.check(signature, payload)
        except BadSignature as error:
            raise HubProblem(422, "signature_invalid", str(error)) from None

        def work(record: Record) -> None:
            record.version(version).signatures[platform] = signature

        return await self._decided(who, kind, name, version, "sign", work)

    async def _decided(
        self, who: Who, kind: Kind, name: str, version: str, action: str, work: Callable[[Record], None]
    ) -> Response:
        await self._decide(who, kind, name, version, action, work, {})
        snapshot = self._catalog.current
        return plain(snapshot.services[name].info if kind == "service" else snapshot.models[name].info)

    async def _decide(
        self,
        who: Who,
        kind: Kind,
        name: str,
        version: str,
        action: str,
        work: Callable[[Record], None],
        payload: dict[str, object],
    ) -> None:
        before = _told(self._record(kind, name), version)
        await self._catalog.edit(kind, name, work)
        after = _told(self._record(kind, name), version)
        target = f"{name}@{version}" if version else name
        revision = self._catalog.current.revision
        told = {**payload, "before": before, "after": after, "revision": revision}
        await self._note(who, f"{kind}.{action}", target, told)

    async def _note(self, who: Who, action: str, target: str, payload: dict[str, object]) -> None:
        kind = "key" if who.key_id else "operator"
        actor = Actor(type=kind, id=who.key_id or who.name, request_id=request_id() if request else None)
        await self._hub.records.note(actor, action, target, payload, time.time())

    async def _trash(self, who: Who, kind: Kind, name: str, version: str, where: str) -> None:
        root = self._catalog.root
        target = root / "_trash" / f"{time.time_ns()}-{where.replace('/', '-')}"
        await self._catalog.place(kind, name, lambda: _move_away(root / where, target))
        await self._note(who, f"{kind}.delete", f"{name}@{version}", {})

    def _record(self, kind: Kind, name: str) -> Record | None:
        snapshot = self._catalog.current
        entry = snapshot.services.get(name) if kind == "service" else snapshot.models.get(name)
        return entry.record if entry else None

    def _offered(self, kind: Kind, name: str, version: str) -> None:
        """Raises HubProblem unless the version is published and not taken back."""
        if self._known(kind, name, version) not in OFFERED:
            raise HubProblem(409, "version_not_offered", "The version is yanked or corrupt; choose another.")

    def _known(self, kind: Kind, name: str, version: str) -> str:
        snapshot = self._catalog.current
        if kind == "model":
            entry = snapshot.version(name, version)
            if entry is None:
                listing.version(snapshot, name, version)
                raise HubProblem(404, "version_not_found", "Version not found; give its own name.")
            return entry.info.status
        variants = listing.service(snapshot, name).variants
        found = [one.info.status for (own, _), one in variants.items() if own == version]
        if not found:
            raise HubProblem(404, "version_not_found", "Version not found")
        return found[0]


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


def _move_away(source: Path, target: Path) -> None:
    make_directories(target.parent, target.parent)
    shutil.move(source, target)
    sync_directory(source.parent)


def _told(record: Record | None, version: str) -> object:
    if record is None:
        return None
    if version:
        own = record.versions.get(version)
        versions = {version: own} if own else {}
        record = msgspec.structs.replace(record, versions=versions)
    return msgspec.to_builtins(record)


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
