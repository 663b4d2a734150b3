"""What a client does in rooms: it comes and goes, and now and then wants to hear another language."""

from __future__ import annotations

from typing import TYPE_CHECKING

from linguad.wire.room import (
    RemoteSpeakingEnd,
    RemoteSpeakingStart,
    RoomCreate,
    RoomCreateAck,
    RoomError,
    RoomExpired,
    RoomJoin,
    RoomLeave,
    RoomMembers,
)
from linguad.wire.session import ServerMessage, SessionUpdate

from .languages import CODES
from .server import Server
from .world import World

if TYPE_CHECKING:
    from .client import Client

ACTS_EVERY_S = 9.0

ANSWERED_S = 1.0
"""After that it knows in which room it is, unless the network is slow."""

ACTS = ("enters", "leaves", "prefers", "prefers", "mistypes", "speaks", "stays", "stays")


class Visitor:
    """Mutable: the room it is in, as far as it was told, and who is there."""

    def __init__(self, world: World, server: Server, client: Client) -> None:
        self.members: list[str] = []
        self._world = world
        self._server = server
        self._client = client
        self._code = ""
        self._asked_at = 0.0
        world.again_and_again(ACTS_EVERY_S, self._act, lambda: client.faulty)

    def moved(self) -> None:
        """The client has a new session, which is in no room; soon it is in one again."""
        self._code, self.members = "", []
        self._world.after(self._world.between(0.1, 3.0), self._act)

    def back(self) -> None:
        """The client goes on with its session; if that is still in a room, it is told again."""
        self._code, self.members = "", []

    def hear(self, message: ServerMessage) -> None:
        """Something about rooms, or not."""
        match message:
            case RoomCreateAck(room_code=code):
                self._code = code
                if code not in self._server.room_codes:
                    self._server.room_codes.append(code)
            case RoomMembers(members=members):
                if message.room_code == self._code:
                    self.members = [member.session_id for member in members]
            case RoomExpired():
                self._code, self.members = "", []
            case RoomError() if not self._code:
                self._create()

    def _act(self) -> None:
        client, world = self._client, self._world
        if not (client.ready and client.connected and client.faulty):
            return
        what = "enters" if not self._code else world.random.choice(ACTS)
        if what == "leaves" and world.now < self._asked_at + ANSWERED_S:
            return  # Nothing answers that; what comes next would be taken for the room it is in.
        world.say(client.session_id, f"{what} {self._code}")
        match what:
            case "enters":
                self._enter()
            case "leaves":
                client.send(RoomLeave(room_code=self._code))
                self._code, self.members = "", []
            case "prefers":
                code = world.random.choice(CODES)
                client.send(SessionUpdate(session_id=client.session_id, preferred_lang=code))
            case "mistypes":
                self._asked_at = world.now
                client.send(RoomJoin(room_code=world.random.choice(("000000", "12", self._code))))
            case "speaks":
                client.send(RemoteSpeakingStart(room_code=self._code, ts_ms=0))
                client.send(RemoteSpeakingEnd(room_code=self._code, ts_ms=0))

    def _enter(self) -> None:
        """Mostly where somebody is already."""
        self._asked_at = self._world.now
        codes, prefers = self._server.room_codes, self._client.spec.prefers
        if codes and self._world.chance(0.85):
            code = self._world.random.choice(codes[-2:])
            self._client.send(RoomJoin(room_code=code, preferred_lang=prefers))
        else:
            self._create()

    def _create(self) -> None:
        self._asked_at = self._world.now
        self._client.send(RoomCreate(client_ts=0, preferred_lang=self._client.spec.prefers))
