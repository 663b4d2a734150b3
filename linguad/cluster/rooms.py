"""Rooms in Redis: who owns each code, and letters between those who have members in one (resolution 50)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import trio

from linguad import log
from linguad.cluster.service import Cluster
from linguad.cluster.session_scripts import HOLD_ROOM, RELEASE_ROOM, TAKE_ROOM
from linguad.core.room import Claim, Post, Release, RoomOutput, Seek, TakeOver
from linguad.core.room_sharing import Sharing
from linguad.net.redis.errors import RedisAway, RedisRefusal
from linguad.wire.letters_rooms import RoomHeard, RoomIs, RoomMine, RoomRefused, RoomTold, RoomUnknown

ASK_S = 2.0
"""How long Redis may take to answer about a room, s."""

RENEW_S = 60.0
"""How often it is renewed that a room is ours, s."""

LETTER_S = 30.0
"""How long a letter about a room is worth delivering, s."""

MAX_ASKED = 1000
"""Questions that may wait for Redis; more are not asked, and have no answer."""

Question = Claim | Seek | TakeOver | Release

logger = log.get(__name__)


class Owner(NamedTuple):
    """Who owns a code, as Redis knows; nobody, if there is no name."""

    instance: str = ""
    room_id: str = ""
    epoch: int = 0


class RoomMail:
    """Carries letters and questions of the rooms; has no state but what waits."""

    def __init__(self, cluster: Cluster, sharing: Sharing, idle_s: Callable[[], float]) -> None:
        """`idle_s` is how long a room stays in which nobody speaks."""
        self._cluster = cluster
        self._sharing = sharing
        self._idle_s = idle_s
        self._perform: Callable[[list[RoomOutput]], None]
        self._send_question, self._questions = trio.open_memory_channel[Question](MAX_ASKED)
        self._news = trio.Event()
        bus, peers = cluster.bus, cluster.peers
        now = trio.current_time
        sharing.is_alive = peers.is_alive
        bus.on(RoomMine, lambda sender, letter, _: self._perform(sharing.told_mine(sender, letter, now())))
        bus.on(RoomIs, lambda sender, letter, _: self._perform(sharing.told_is(sender, letter, now())))
        bus.on(RoomRefused, lambda _sender, letter, _: self._perform(sharing.entrance.refused(letter)))
        bus.on(RoomUnknown, lambda sender, letter, _: self._perform(sharing.told_unknown(sender, letter)))
        bus.on(RoomHeard, lambda _sender, letter, _: self._perform(sharing.told_heard(letter)))
        bus.on(RoomTold, lambda _sender, letter, _: self._perform(sharing.told_told(letter)))
        peers.when_gone(lambda instance: self._perform(sharing.gone(instance, now())))
        cluster.when_up(self._up)
        cluster.when_down(self._down)

    def connect(self, perform: Callable[[list[RoomOutput]], None]) -> None:
        """What carries out what the rooms decide."""
        self._perform = perform

    def post(self, post: Post) -> None:
        """Send a letter; what is lost is told again later."""
        self._cluster.bus.send(post.instance, post.letter, lane=post.lane, expires_s=LETTER_S)

    def ask(self, question: Question) -> None:
        """Ask Redis."""
        try:
            self._send_question.send_nowait(question)
        except trio.WouldBlock:
            logger.warning("room_unasked", reason="too many questions wait")

    async def run(self) -> None:
        """Ask what is to be asked and renew what is ours, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew)
            async for question in self._questions:
                nursery.start_soon(self._ask, question)

    async def _ask(self, question: Question) -> None:
        sharing, answer = self._sharing, list[RoomOutput]()
        owner: Owner | None = None
        with trio.move_on_after(ASK_S):
            try:
                owner = await self._answer(question)
            except (RedisAway, RedisRefusal) as error:
                logger.warning("room_unasked", reason=str(error))
        now = trio.current_time()
        match question:
            case Claim(session_id=session_id, code=code, room_id=room_id):
                epoch = None if owner is None else owner.epoch if owner.room_id == room_id else 0
                answer = sharing.entrance.claimed(session_id, room_id, epoch, now)
            case Seek(session_id=session_id, code=code) if owner is not None:
                answer = sharing.entrance.found(session_id, code, owner.room_id, owner.instance, now)
            case TakeOver(room_id=room_id) if owner is not None:
                answer = sharing.taken(room_id, owner.instance, owner.room_id, owner.epoch, now)
        self._perform(answer)

    async def _answer(self, question: Question) -> Owner:
        caller, me = self._cluster.redis.caller, self._cluster.place.me
        key = self._cluster.keys.of("room", question.code)
        match question:
            case Claim(room_id=room_id):
                return _owner(await HOLD_ROOM(caller, [key], (room_id, me.instance, 0, self._ttl_ms)))
            case Seek():
                return _owner(await caller.call(("HMGET", key, "owner", "id", "epoch")))
            case TakeOver(room_id=room_id, former=former):
                words = (room_id, me.instance, self._ttl_ms)
                owner = _owner(await TAKE_ROOM(caller, [key], (*words, former)))
                if owner.instance not in ("", me.instance) and not self._sharing.is_alive(owner.instance):
                    owner = _owner(await TAKE_ROOM(caller, [key], (*words, owner.instance)))
                return owner
            case Release(room_id=room_id):
                await RELEASE_ROOM(caller, [key], (room_id, me.instance))
                return Owner()

    async def _renew(self) -> None:
        while True:
            with trio.move_on_after(RENEW_S):
                await self._news.wait()
            self._news = trio.Event()
            await self._hold()

    async def _hold(self) -> None:
        """Say in Redis again which rooms are ours."""
        caller, me = self._cluster.redis.caller, self._cluster.place.me.instance
        if not self._cluster.up:
            return
        try:
            for code, room_id, epoch in self._sharing.owned:
                key = self._cluster.keys.of("room", code)
                await HOLD_ROOM(caller, [key], (room_id, me, epoch, self._ttl_ms))
        except (RedisAway, RedisRefusal) as error:
            logger.warning("room_unasked", reason=str(error))

    @property
    def _ttl_ms(self) -> int:
        return int((self._idle_s() + 2 * RENEW_S) * 1000)

    def _up(self) -> None:
        self._perform(self._sharing.connected())
        # ours again, if Redis has forgotten
        self._news.set()

    def _down(self) -> None:
        self._sharing.up = False


def _owner(reply: object) -> Owner:
    instance, room_id, epoch = cast("list[bytes | None]", reply)
    if instance is None or room_id is None:
        return Owner()
    return Owner(instance.decode(), room_id.decode(), int(epoch or 0))
