"""`/api/v1/nodes`: who is there, how each is doing, what operators say about it. Needs the admin token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace
from quart import Response, jsonify, request
from quart_trio import QuartTrio

from linguad import log
from linguad.core.dispatch import Dispatch
from linguad.core.health import Status
from linguad.core.node import Node
from linguad.core.pairing import LiveCode
from linguad.core.services import CORE_SERVICES
from linguad.ops.node_page import page, pairing, summary
from linguad.ops.query import MAX_VALUE_CHARS, Wrong, answer_wrong, check, language
from linguad.web.admin import admin_only
from linguad.web.app import error_body
from linguad.wire.override import ALLOWED, Override

FILTERS = {
    "src": "a language the node hears, such as en",
    "tgt": "a language the node speaks, such as es",
    "status": ", ".join(status.value for status in Status),
    "q": f"part of an id or of a note, at most {MAX_VALUE_CHARS} characters",
}
"""What the list can be narrowed down by, and what each may be."""

logger = log.get(__name__)


class Directory(Protocol):
    """Where the nodes are."""

    @property
    def dispatch(self) -> Dispatch:
        """Their records and jobs."""
        ...

    def now(self) -> float:
        """The time of these records, monotonic s."""
        ...

    def epoch_ms(self, now: float) -> int:
        """Unix time in ms of a moment."""
        ...

    def nodes(self) -> list[tuple[Node, int]]:
        """Every known node and the slots it has in use."""
        ...

    def override(self, node_id: str, said: Override) -> bool:
        """An operator says something about a known node; False if its instance cannot be told."""
        ...

    def pairing_code(self, node_id: str) -> LiveCode:
        """A new pairing code for a known node."""
        ...

    def paired_with(self, node_id: str) -> list[str]:
        """Sessions that only this node serves."""
        ...


def add_node_routes(app: QuartTrio, directory: Directory, token: str) -> None:
    """Serve the nodes on an app."""

    answer_wrong(app)

    @app.get("/api/v1/nodes")
    @admin_only(token)
    async def nodes() -> Response:
        wanted = _filter(request.args.to_dict())
        return jsonify({"nodes": [summary(node, used) for node, used in directory.nodes() if wanted(node)]})

    @app.get("/api/v1/nodes/<path:node_id>")
    @admin_only(token)
    async def node(node_id: str) -> Response:
        known = directory.dispatch.fleet.nodes.get(node_id)
        return _unknown() if known is None else jsonify(_whole(known, directory))

    @app.patch("/api/v1/nodes/<path:node_id>")
    @admin_only(token)
    async def change(node_id: str) -> Response:
        body = await request.data
        known = directory.dispatch.fleet.nodes.get(node_id)
        if known is None:
            return _unknown()
        changes = _changes(body)
        if not directory.override(node_id, replace(known.said, **changes)):
            message = f"Instance {known.owner} has the node and cannot be told now; try again, or ask it."
            return error_body("owner_not_reached", message, 503)
        logger.info("node_override", node=node_id, members=sorted(changes))
        return jsonify(_whole(known, directory))

    @app.post("/api/v1/nodes/<path:node_id>/pairing-code")
    @admin_only(token)
    async def pair(node_id: str) -> Response:
        known = directory.dispatch.fleet.nodes.get(node_id)
        if known is None:
            return _unknown()
        if not known.online:
            return error_body("node_offline", "The node is not connected; start it, then ask again.", 409)
        live = directory.pairing_code(node_id)
        return jsonify(pairing(live, directory.epoch_ms(live.expires_at)))


def _whole(node: Node, directory: Directory) -> dict[str, Any]:
    now = directory.now()
    live = directory.dispatch.fleet.pairing.of(node.id, now)
    return page(node, directory.dispatch, now) | {
        "pairing_code": live and pairing(live, directory.epoch_ms(live.expires_at)),
        "paired_sessions": directory.paired_with(node.id),
    }


def _unknown() -> Response:
    message = (
        "No node of that id is known; GET /api/v1/nodes lists them. A node that is gone is known for some "
        "minutes more."
    )
    return error_body("node_not_found", message, 404)


def _filter(asked: Mapping[str, str]) -> Callable[[Node], bool]:
    """What the query of the list asks for."""
    check(asked, FILTERS)
    status, part = asked.get("status"), asked.get("q", "").casefold()
    if status is not None and status not in [known.value for known in Status]:
        raise Wrong(f"status: allowed is one of {FILTERS['status']}.")
    src, tgt = (language(name, asked, FILTERS) for name in ("src", "tgt"))

    def wanted(node: Node) -> bool:
        return (
            status in (None, node.status.value)
            and part in f"{node.id}\n{node.override.note or ''}".casefold()
            and ((src is None and tgt is None) or _speaks(node, src, tgt))
        )

    return wanted


def _speaks(node: Node, src: str | None, tgt: str | None) -> bool:
    """Whether a node, busy or not, turns speech of a language into speech of another; None is any."""
    if CORE_SERVICES & ~node.services.running:
        return False
    languages = node.languages
    sources = languages.asr if src is None else {src}
    targets = languages.codes if tgt is None else {tgt}
    return any(languages.serve(one, other, CORE_SERVICES) for one in sources for other in targets)


def _changes(body: bytes) -> dict[str, Any]:
    """The members of an override that a request names; None gives one back."""
    members = "an object with any of " + ", ".join(f"{name} ({what})" for name, what in ALLOWED.items())
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise Wrong(f"The body is not JSON; send {members}.") from None
    if not isinstance(said, dict):
        raise Wrong(f"The body is not an object; send {members}.")
    for name, value in said.items():
        if name not in ALLOWED:
            raise Wrong(f"{name[:64]}: there is no such member; there are {', '.join(ALLOWED)}.")
        try:
            msgspec.convert({name: value}, Override)
        except msgspec.ValidationError:
            raise Wrong(f"{name}: allowed is {ALLOWED[name]}, or null to take back what was said.") from None
    return said
