"""The hub as a client sees it: its lists, its manifests, its ranking (model-hub 4, 7, 11)."""

from __future__ import annotations

import json
import os
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec

from linguad.models.catalog import (
    ListedModel,
    ListedService,
    ListedServices,
    Rank,
    SyncAnswer,
    Variant,
    Wanted,
    from_list,
    from_manifest,
    parse_checksums,
)
from linguad.models.errors import (
    HubProtocolError,
    ModelNotFoundError,
    NetworkError,
    VersionNotFoundError,
)
from linguad.models.names import CHECKSUMS, Key, check_id, url_path
from linguad.net.guard import AddressRefused
from linguad.net.http_client import HttpError, Limits, request

VARIABLE = "MODEL_HUB_URL"
DEFAULT = "http://127.0.0.1:5000"

LIMITS = Limits(
    connect_seconds=10.0, headers_seconds=10.0, idle_seconds=10.0, whole_seconds=60.0, body_bytes=64 << 20
)
"""For lists: a hub answers them from memory."""

T = TypeVar("T")


def hub_url(given: str | None = None) -> str:
    """The hub's address: as given, else of $MODEL_HUB_URL, else this machine; without slash at the end.

    `localhost` becomes 127.0.0.1, as in the old client: many machines try IPv6 first and wait for it.
    Raises HubProtocolError if it is no address of a hub.
    """
    text = (given or os.environ.get(VARIABLE) or DEFAULT).rstrip("/")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("http", "https"):
        raise HubProtocolError(f"{text!r} is not an address of a hub like {DEFAULT}")
    if host == "localhost":
        parts = parts._replace(netloc=f"127.0.0.1:{port}" if port else "127.0.0.1")
    return urlunsplit(parts)


class Hub:
    """One hub. Mutable state: the list of models it gave last, and its validator."""

    def __init__(self, url: str, *, token: str | None = None, limits: Limits = LIMITS) -> None:
        self.url = url
        self.token = token
        self._limits = limits
        self._models: list[ListedModel] = []
        self._etag: str | None = None

    def file_url(self, one: Key, path: str) -> str:
        """Where a file of a version lies."""
        return f"{self.url}/storage/models/{url_path(one.model_id, one.version, path)}"

    def at(self, path: str) -> str:
        """A path that the hub tells, on this hub and nowhere else. Raises HubProtocolError."""
        if not path.startswith("/") or path.startswith("//"):
            raise HubProtocolError(f"the hub names {path[:80]!r}, which is no path on it")
        return self.url + url_path(path)

    @property
    def known(self) -> list[ListedModel]:
        """The models of the last list; empty before the first."""
        return self._models

    async def models(self) -> list[ListedModel]:
        """All models; the last list if it has not changed. Raises NetworkError, HubProtocolError."""
        headers = {"if-none-match": self._etag} if self._etag else {}
        status, answered, body = await self._get("/api/models", headers)
        if status == 304:
            return self._models
        self._models = self._decode(self._wanted(status, body), list[ListedModel], "/api/models")
        self._etag = answered.get("etag")
        return self._models

    async def model(self, model_id: str) -> ListedModel:
        """One model. Raises ModelNotFoundError, NetworkError, HubProtocolError."""
        path = f"/api/models/{check_id(model_id)}"
        status, _, body = await self._get(path)
        if status == 404:
            raise ModelNotFoundError(f"the hub at {self.url} has no model {model_id}; see its list")
        return self._decode(self._wanted(status, body), ListedModel, path)

    async def wanted(self, one: Key, model: ListedModel, *, allow_unverified: bool = False) -> Wanted:
        """All that makes a version, from its manifest or, at an old hub, its list and checksum file.

        Raises VersionNotFoundError, ChecksumMissingError, NetworkError, HubProtocolError.
        """
        listed = model.find(one.version)
        path = f"/api/models/{one.model_id}/versions/{one.version}/manifest"
        status, _, body = await self._get(path)
        if status == 200:
            return from_manifest(one, body, model, listed)
        if status != 404:
            self._wanted(status, body)
        if listed is None:
            raise VersionNotFoundError(
                f"the hub has no version {one.version} of {one.model_id}; see its list"
            )
        path = f"/storage/models/{url_path(one.model_id, one.version, CHECKSUMS)}"
        status, _, body = await self._get(path)
        checksums = None if status == 404 else parse_checksums(self._wanted(status, body))
        return from_list(one, model, checksums, allow_unverified=allow_unverified)

    async def ranking(self, **asked: str | int | None) -> list[Rank]:
        """The most used models. Raises NetworkError, HubProtocolError."""
        path = "/api/model-usage/ranking" + _query(asked)
        status, _, body = await self._get(path)
        return self._decode(self._wanted(status, body), list[Rank], path)

    async def news(self, cursor: str | None) -> SyncAnswer:
        """What is new since a cursor; of an old hub, its whole list. Raises as `models`."""
        path = "/api/sync/manifest" + _query({"since": cursor})
        status, _, body = await self._get(path)
        if status == 200:
            return self._decode(body, SyncAnswer, path)
        if status != 404:
            self._wanted(status, body)
        models = await self.models()
        return msgspec.convert({"models": msgspec.to_builtins(models)}, SyncAnswer)

    async def service(self, service_id: str, platform: str) -> ListedService:
        """The packages of a service for a platform. Raises ModelNotFoundError and as above."""
        path = "/api/services" + _query({"platform": platform, "service_id": check_id(service_id)})
        status, _, body = await self._get(path)
        found = self._decode(self._wanted(status, body), ListedServices, path).services
        for one in found:
            if one.service_id == service_id and one.variants:
                return one
        raise ModelNotFoundError(f"the hub at {self.url} has no package of {service_id} for {platform}")

    async def variant(self, service_id: str, version: str, platform: str) -> Variant:
        """One package. Raises VersionNotFoundError and as above."""
        path = f"/api/services/{url_path(service_id, version, platform)}"
        status, _, body = await self._get(path)
        if status == 404:
            raise VersionNotFoundError(f"the hub has no {service_id} {version} for {platform}; see its list")
        return self._decode(self._wanted(status, body), Variant, path)

    async def report(self, events: list[dict[str, Any]]) -> None:
        """Hand over usage events. Raises NetworkError, HubProtocolError."""
        body = json.dumps({"events": events}).encode()
        status, _, answer = await self._ask("POST", "/api/model-usage/events", {}, body)
        if status not in (200, 202):
            self._wanted(status, answer)

    async def _get(
        self, path: str, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        return await self._ask("GET", path, headers or {}, b"")

    async def _ask(
        self, method: Any, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if self.token:
            headers = headers | {"authorization": f"Bearer {self.token}"}
        if body:
            headers = headers | {"content-type": "application/json"}
        try:
            async with request(
                method, self.url + path, headers=headers, body=body, limits=self._limits
            ) as response:
                return response.status, response.headers, await response.read()
        except (HttpError, AddressRefused) as error:
            raise NetworkError(f"the hub at {self.url} cannot be asked: {error}") from error

    def _wanted(self, status: int, body: bytes) -> bytes:
        """The body of a good answer. Raises the error that the status stands for."""
        if status == 200:
            return body
        text = f"the hub at {self.url} answers with status {status}{_reason(body)}"
        if status >= 500 or status == 429:
            raise NetworkError(text)
        raise HubProtocolError(f"{text}; is this the address of a model hub?")

    def _decode(self, body: bytes, kind: type[T], path: str) -> T:
        try:
            return msgspec.json.decode(body, type=kind, strict=False)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise HubProtocolError(
                f"{path} of the hub at {self.url} is not what a hub answers: {error}"
            ) from error


def _reason(body: bytes) -> str:
    try:
        return f" ({json.loads(body)['detail']})"[:200]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _query(asked: dict[str, Any]) -> str:
    text = urlencode({name: value for name, value in asked.items() if value is not None})
    return f"?{text}" if text else ""
