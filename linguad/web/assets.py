"""Files that are served from memory; a browser that has one already gets no more than a 304."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from quart import Response, request


class Asset(NamedTuple):
    """A file in memory."""

    content: bytes
    kind: str
    """Its `Content-Type`."""
    tag: str
    """Its `ETag`, without quotes."""


def asset_of(content: bytes, kind: str) -> Asset:
    """A file with this content."""
    return Asset(content, kind, hashlib.sha256(content).hexdigest()[:16])


def asset_answer(asset: Asset, headers: Mapping[str, str]) -> Response:
    """The answer to the request at hand for a file: the file, or 304 if it names the tag."""
    known = request.if_none_match.contains_weak(asset.tag)
    response = Response(b"" if known else asset.content, 304 if known else 200, content_type=asset.kind)
    response.set_etag(asset.tag)
    response.headers.update(headers)
    return response
