"""People in a room: what a client sends to make one or to enter it, and what it must hear then."""

from __future__ import annotations

from typing import Any

from harness import Client, Json, Node, World


async def polyglot(world: World) -> Node:
    """A node with room for all that is said; the test answers for it."""
    return await world.node("p", max_concurrent_jobs=20)


async def create(client: Client, lang: str | None = None) -> str:
    """A room; returns the code. The acknowledgement is the next frame, the members follow."""
    await client.say({"type": "room_create", "client_ts": 0, "preferred_lang": lang})
    ack, listing = await client.hear(), await client.hear()
    assert (ack["type"], listing["type"]) == ("room_create_ack", "room_members")
    code: str = ack["room_code"]
    assert listing["room_code"] == code
    return code


async def join(client: Client, code: str, lang: str | None = None) -> list[str]:
    """Enter a room; returns the ids of its members."""
    await client.say({"type": "room_join", "room_code": code, "preferred_lang": lang})
    ack, listing = await client.hear(), await client.hear()
    assert (ack["type"], listing["type"]) == ("room_create_ack", "room_members")
    assert ack["room_code"] == code
    return members(listing)


def members(listing: Json) -> list[str]:
    """Ids in a `room_members`, in its order."""
    return [member["session_id"] for member in listing["members"]]


async def meeting(world: World, *langs: str, **init: Any) -> tuple[str, list[Client]]:
    """Clients in one room, each with a language, and its code; the lists of members have been read."""
    first, *others = [await world.client(src_lang=lang, **init) for lang in langs]
    code = await create(first, langs[0])
    for client, lang in zip(others, langs[1:], strict=True):
        await join(client, code, lang)
    clients = [first, *others]
    for client in clients:
        await client.heard()
    return code, clients


async def jobs(node: Node, count: int) -> dict[str, Json]:
    """So many jobs, by target language."""
    found = [await node.job() for _ in range(count)]
    return {job["tgt_lang"]: job for job in found}
