"""Below `/api/admin/`: describe, publish, delete and look after (model-hub 11.1, 11.3, 11.7)."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import trio
from quart import Response, request

from linguad.core.tenant import Scope
from linguad.hub import listing
from linguad.hub.access import Who
from linguad.hub.answers import HubProblem
from linguad.hub.app import HubApp, body, moment, number, plain
from linguad.hub.decisions import add_decision_routes, add_signature_routes
from linguad.hub.desk import Desk, Kind
from linguad.hub.hasher import Hasher
from linguad.hub.names import TASKS, is_channel, is_id
from linguad.hub.publishing import Publisher
from linguad.hub.records import Record
from linguad.hub.uploads import AlreadyPublished, Failure, NewVersion, Upload, Uploads
from linguad.net.supervise import guarded

MAX_WAIT_SECONDS = 120


class _Described(msgspec.Struct):
    name: str | None = None
    task: str | None = None
    languages: tuple[str, ...] | None = None
    description: str | None = None
    tags: tuple[str, ...] | None = None
    license: str | None = None


class Admin:
    """The routes below `/api/admin/`."""

    def __init__(
        self,
        hub: HubApp,
        desk: Desk,
        uploads: Uploads,
        publisher: Publisher,
        hasher: Hasher,
        tasks: Callable[[], trio.Nursery],
    ) -> None:
        self._hub = hub
        self._desk = desk
        self._catalog = hub.catalog
        self._uploads = uploads
        self._publisher = publisher
        self._hasher = hasher
        self._tasks = tasks
        self._add_models()
        self._add_uploads()
        add_decision_routes(hub, self._desk)
        add_signature_routes(hub, self._desk)
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

            await self._desk.decide(who, "model", model_id, "", "describe", work, given)
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
            self._desk.known("model", model_id, version)
            model = self._catalog.current.models[model_id]
            chosen = model.record.default == version or version in model.record.channels.values()
            if chosen or (len(model.info.versions) > 1 and model.info.default_version == version):
                raise HubProblem(
                    409, "version_in_use", "The default or a channel is this version; change that."
                )
            path, file = next(iter(model.versions[version].files.items()))
            where = file.where.removesuffix(f"/{path}")
            if not where.startswith("storage/"):
                raise HubProblem(409, "not_published", "It lies in an old directory; remove its files there.")
            await self._desk.trash(who, "model", model_id, version, where)
            return Response(b"", 204)

        @app.delete("/api/admin/services/<service_id>/<version>/<platform>")
        async def delete_package(service_id: str, version: str, platform: str) -> Response:
            who = self._hub.who(Scope.HUB_ADMIN)
            if (version, platform) not in listing.service(self._catalog.current, service_id).variants:
                raise HubProblem(404, "variant_not_found", "Service variant not found")
            where = f"services/{service_id}/{version}/{platform}"
            await self._desk.trash(who, "service", service_id, version, where)
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
            if upload.committed or self._publisher.is_published(upload):
                upload.state = "committed"
                return plain(await self._progress(upload))
            self._publisher.begin(upload)
            done = trio.Event()
            self._tasks().start_soon(guarded, "hub", self._commit, who, upload, done)
            with trio.move_on_after(wait):
                await done.wait()
            if not done.is_set():
                return plain({"status_url": f"/api/admin/uploads/{upload_id}"}, 202)
            problem = _why_not(upload)
            if problem is not None:
                raise problem
            return plain(await self._progress(upload), 201)

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
            if self._hasher.verifying:
                raise HubProblem(409, "busy", "Files are being verified already; ask again after that.")
            names = [asked] if asked else list(self._catalog.current.models)
            self._tasks().start_soon(guarded, "hub", self._hasher.verify, names)
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
        come = await self._uploads.offsets(upload)
        files = [
            {"path": file.path, "offset": come[file.path], "length": file.size_bytes}
            for file in upload.wanted.files
        ]
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
            if upload.committed:
                await self._desk.note(
                    who, f"{upload.kind}.publish", f"{upload.name}@{upload.wanted.version}", {}
                )
        finally:
            done.set()


def _why_not(upload: Upload) -> HubProblem | None:
    """Why an upload was not published; None if it was."""
    if upload.committed:
        return None
    failed = upload.failed or Failure("", "the hub failed; its log says why")
    taken = isinstance(failed, AlreadyPublished)
    return HubProblem(
        409 if taken else 422,
        "version_exists" if taken else "upload_invalid",
        f"Not published: {failed.file} {failed.reason}".replace("  ", " "),
        retryable=False,
        details=msgspec.structs.asdict(failed),
    )


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
