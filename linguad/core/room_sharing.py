"""Rooms whose members are at several instances (resolution 50).

Rules:
- One instance owns a room: it says who is in, in which order, and tells the others at each change (`RoomIs`).
  They have copies, which are enough to plan an utterance, and to say who hears it.
- What is true of a member its home knows, the instance that has its session: what it speaks, what it wants. A
  home tells the owner all its members when one of them changes, wants to enter or leaves (`RoomMine`).
- Letters tell how things are. One that is lost, late or comes twice does no harm: once a minute each home
  tells the owner again, and whoever knows an older state than the other is told the newer one.
- What members say to each other goes from home to home, and not through the owner: it arrives in the order in
  which its speaker's home sent it, sooner, and also while a room has no owner.
- When an owner is gone, the homes ask Redis for the room, and one gets it. Members whose home is gone keep
  their seat for a while if their clients can come back at another instance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from typing import TYPE_CHECKING

from msgspec.structs import replace

from linguad.core.bucket import Bucket
from linguad.core.clock import Clock
from linguad.core.deadlines import Deadlines, earliest
from linguad.core.ids import Ids
from linguad.core.room import (
    AWAY,
    HERE,
    Guest,
    Member,
    Post,
    Release,
    Room,
    RoomOutput,
    TakeOver,
    Tell,
    welcome,
)
from linguad.core.room_entrance import Entrance
from linguad.core.room_relay import SPEAKING_BURST, SPEAKING_PER_S
from linguad.core.room_table import RoomTable
from linguad.errors import ErrorCode
from linguad.wire import codec
from linguad.wire.letters_rooms import RoomHeard, RoomIs, RoomMine, RoomRefused, RoomTold, RoomUnknown
from linguad.wire.resume import SeatRecord
from linguad.wire.room_record import MemberRecord, RoomRecord
from linguad.wire.session import TranslationResult

if TYPE_CHECKING:
    from linguad.core.rooms import Rooms

REPORT_S = 60.0
"""How often a home tells the owner how things are, if nothing changes, s."""


class Sharing:
    """Mutable state: whether others can be reached, and when each room is to be told of again."""

    def __init__(
        self, rooms: Rooms, table: RoomTable, clock: Clock, ids: Ids, me: str, grace_s: float, now: float
    ) -> None:
        """`me` is the name of this instance; seats are kept for `grace_s`. Letters are counted from `now`."""
        self._rooms = rooms
        self._table = table
        self._clock = clock
        self._ids = ids
        self.me = me
        self._grace_s = grace_s
        self.entrance = Entrance(rooms, table, clock, ids, self)
        self._numbers = count(clock.epoch_ms(now))
        self._again: Deadlines[str] = Deadlines()
        self.is_alive: Callable[[str], bool] = lambda _instance: False
        """Whether another instance lives."""
        self.up = False
        """Whether the others can be reached."""

    @property
    def owned(self) -> list[tuple[str, str, int]]:
        """Code, id and epoch of the rooms that are ours."""
        return [(room.code, room.id, room.epoch) for room in self._table if room.owner == HERE]

    def changed(self, room: Room) -> list[RoomOutput]:
        """One of our members changed, entered or left; or, in a room of ours, another one."""
        self._watch(room)
        if room.owner == AWAY:
            return []
        if room.owner != HERE:
            return [self.mine(room.owner, room.id, room.code, room)]
        room.version += 1
        told: list[RoomOutput] = [Post(home, self._is(room), room.id) for home in sorted(room.homes)]
        return told if room.members else [*told, Release(room.code, room.id)]

    def expired(self, room: Room) -> list[RoomOutput]:
        """Nobody has spoken in a room of ours for too long."""
        room.version += 1
        record = replace(room.record(self.me), members=[])
        told = [Post(home, RoomIs(record, expired=True), room.id) for home in sorted(room.homes)]
        return [*told, Release(room.code, room.id)]

    def route(self, room: Room, tells: Iterable[Tell]) -> list[RoomOutput]:
        """What members are told, wherever they are."""
        outputs: list[RoomOutput] = []
        for tell in tells:
            home = room.members[tell.session_id].home
            if home == HERE:
                outputs.append(tell)
            elif home != AWAY:
                frame = codec.encode(tell.message)
                letter = RoomTold(room.id, tell.session_id, frame, tell.optional)
                outputs.append(Post(home, letter, room.id))
        return outputs

    def heard(self, room: Room, language: str, result: TranslationResult) -> list[RoomOutput]:
        """A result for all other instances where somebody listens in its language."""
        homes = {member.home for member in room.others(result.session_id) if member.listens_in(language)}
        homes -= {HERE, AWAY}
        if not homes:
            return []
        letter = RoomHeard(room.id, language, codec.encode(result))
        return [Post(home, letter, room.id) for home in sorted(homes)]

    # Sessions that come from another instance, or go there

    def moved(self, session_id: str, now: float) -> list[RoomOutput]:
        """Another instance has a session of ours; its seat is kept until that one tells."""
        self.entrance.give_up(session_id)
        room = self._table.of.pop(session_id, None)
        if room is None:
            return []
        member = room.members[session_id]
        member.home, member.away_since = AWAY, now
        outputs: list[RoomOutput] = []
        if room.owner == HERE:
            outputs = self.changed(room)
        elif room.owner != AWAY:
            outputs = [self.mine(room.owner, room.id, room.code, room, moved=[session_id])]
        if room.owner != HERE and not room.here:
            self._table.close(room)
        return outputs

    def restore(self, guest: Guest, seat: SeatRecord, now: float) -> list[RoomOutput]:
        """A session comes here that has a seat in a room."""
        record, session_id = seat.room, guest.session_id
        room = self._table.by_id.get(record.id)
        if room is None:
            room = Room(id=record.id, code=record.code, active_at=now, owner=AWAY)
            room.epoch, room.version = record.epoch, record.version
            # of our other sessions none is in it, or it would be known here
            known = [one for one in record.members if one.home != self.me or one.session_id == session_id]
            room.members = {one.session_id: self._member(one, None) for one in known}
            room.told = room.listing()
            self._table.add(room)
            if record.owner and record.owner != self.me and self.is_alive(record.owner):
                room.owner = record.owner
        member = room.members.get(session_id)
        if member is None:
            # it is in the record in any case, which was made of its own room
            member = next(self._member(one, None) for one in record.members if one.session_id == session_id)
        self._table.seat(room, member, seat.next_number)
        if room.owner == AWAY:
            self._watch(room)
            return [TakeOver(room.code, room.id, record.owner)]
        return self.changed(room)

    # What other instances tell

    def told_mine(self, sender: str, letter: RoomMine, now: float) -> list[RoomOutput]:
        """Another instance tells its members of a room of ours."""
        room = self._table.by_id.get(letter.room)
        if room is None:
            return [Post(sender, RoomUnknown(letter.room), letter.room)] if letter.members else []
        if room.owner == AWAY:
            return []
        if room.owner != HERE:
            return [Post(sender, self._is(room), room.id)]
        if letter.number <= room.heard.get(sender, 0):
            return []
        room.heard[sender] = letter.number
        self._table.active(room, now - letter.quiet_s, self._rooms.rules.idle_s)
        outputs: list[RoomOutput] = []
        changed = self._drop_unlisted(room, sender, letter, now)
        for said in letter.members:
            known = room.members.get(said.session_id)
            if known is None and len(room.members) >= self._rooms.rules.max_members:
                refused = RoomRefused(room.id, said.session_id, ErrorCode.ROOM_FULL)
                outputs.append(Post(sender, refused, room.id))
            elif known is None or known.record(self.me) != said:
                if known is not None and known.home == HERE:
                    self._table.of.pop(said.session_id, None)
                room.members[said.session_id] = self._member(said, known)
                changed = True
        if changed:
            return outputs + self._rooms.changed(room)
        if (letter.epoch, letter.version) < (room.epoch, room.version):
            outputs.append(Post(sender, self._is(room), room.id))
        return outputs

    def told_is(self, sender: str, letter: RoomIs, now: float) -> list[RoomOutput]:
        """The owner of a room tells how it is."""
        record = letter.room
        room = self._table.by_id.get(record.id)
        if room is None:
            room = self._copy_for_entering(record, now)
            if room is None:
                if any(one.home == self.me for one in record.members):
                    return [self.mine(record.owner, record.id, record.code, None)]
                return []
        elif (record.epoch, record.version) < (room.epoch, room.version) or record.owner == self.me:
            return [Post(sender, self._is(room), room.id)] if room.owner == HERE else []
        elif room.owner == HERE and record.epoch <= room.epoch:
            return []
        if not record.members:
            room.owner = record.owner
            return self._rooms.expire(room) if letter.expired else self._gone(room)
        return self._apply(room, record, now)

    def told_unknown(self, sender: str, letter: RoomUnknown) -> list[RoomOutput]:
        """Whom we took for the owner of a room is not."""
        outputs = self.entrance.unknown(letter.room, sender)
        room = self._table.by_id.get(letter.room)
        if room is not None and room.owner == sender:
            room.owner = AWAY
            outputs.append(TakeOver(room.code, room.id, sender))
        return outputs

    def told_heard(self, letter: RoomHeard) -> list[RoomOutput]:
        """Somebody at another instance said something."""
        room = self._table.by_id.get(letter.room)
        result = codec.server_messages.decode(letter.frame)
        if room is None or not isinstance(result, TranslationResult):
            return []
        return self._rooms.hear(room, letter.language, result)

    def told_told(self, letter: RoomTold) -> list[RoomOutput]:
        """A member at another instance tells one of ours something."""
        room = self._table.of.get(letter.session)
        if room is None or room.id != letter.room:
            return []
        return [Tell(letter.session, codec.server_messages.decode(letter.frame), letter.optional)]

    # Instances that come and go

    def connected(self) -> list[RoomOutput]:
        """The others can be reached: all is told again, for nobody knows what was lost."""
        self.up = True
        outputs: list[RoomOutput] = []
        for room in self._table:
            outputs += self._tell_again(room)
        return outputs

    def gone(self, instance: str, now: float) -> list[RoomOutput]:
        """An instance is gone, with its sessions and what it knew of rooms."""
        outputs: list[RoomOutput] = []
        for room in self._table:
            room.heard.pop(instance, None)
            if room.owner == instance:
                room.owner = AWAY
                outputs.append(TakeOver(room.code, room.id, instance))
            elif room.owner == HERE and instance in room.homes:
                self._lose(room, {instance}, now)
                outputs += self._rooms.changed(room)
        return outputs

    def taken(self, room_id: str, owner: str, owner_room: str, epoch: int, now: float) -> list[RoomOutput]:
        """Who has a room that had lost its owner; nobody knows if there is no name."""
        room = self._table.by_id.get(room_id)
        if room is None or room.owner != AWAY or not owner:
            return []
        if owner != self.me and owner_room == room_id:
            room.owner = owner
            return [self.mine(owner, room.id, room.code, room)]
        # ours; or its code is another's by now, then it is a room for those who are in
        room.owner, room.epoch = HERE, max(epoch if owner == self.me else 0, room.epoch + 1)
        self._lose(room, {home for home in room.homes if not self.is_alive(home)}, now)
        self._table.active(room, now, self._rooms.rules.idle_s)
        return self._rooms.changed(room)

    def due(self) -> float | None:
        """When `tick` has something to do, monotonic s."""
        return earliest(self._again.due(), self.entrance.due())

    def tick(self, now: float) -> list[RoomOutput]:
        """Tell again how things are; wait no longer for what does not come."""
        outputs = self.entrance.tick(now)
        while (room_id := self._again.pop(now)) is not None:
            room = self._table.by_id.get(room_id)
            if room is None:
                continue
            if room.owner == HERE and (late := self._overdue(room, now)):
                for member in late:
                    room.remove(member.session_id)
                outputs += self._rooms.changed(room)
            else:
                outputs += self._tell_again(room, now)
            if room.id in self._table.by_id:
                self._watch(room, now)
        return outputs

    # Parts of these

    def _overdue(self, room: Room, now: float) -> list[Member]:
        return [
            member
            for member in room.members.values()
            if member.home == AWAY and now >= member.away_since + self._grace_s
        ]

    def _tell_again(self, room: Room, now: float | None = None) -> list[RoomOutput]:
        if room.owner == AWAY:
            return [TakeOver(room.code, room.id, "")]
        if room.owner != HERE:
            quiet_s = 0.0 if now is None else max(0.0, now - room.active_at)
            return [self.mine(room.owner, room.id, room.code, room, quiet_s=quiet_s)]
        return [Post(home, self._is(room), room.id) for home in sorted(room.homes)]

    def _drop_unlisted(self, room: Room, home: str, letter: RoomMine, now: float) -> bool:
        """Members that their home does not name any more have left, or are on their way to another."""
        listed = {said.session_id for said in letter.members}
        missing = [one for one in room.members.values() if one.home == home and one.session_id not in listed]
        for member in missing:
            if member.keeps and member.session_id in letter.moved:
                member.home, member.away_since = AWAY, now
            else:
                room.remove(member.session_id)
        return bool(missing)

    def _lose(self, room: Room, homes: set[str], now: float) -> None:
        """These instances are gone: who can come back keeps its seat for a while."""
        for member in list(room.members.values()):
            if member.home not in homes:
                continue
            if member.keeps:
                member.home, member.away_since = AWAY, now
            else:
                room.remove(member.session_id)

    def _gone(self, room: Room) -> list[RoomOutput]:
        """The owner says that a room is no more, although some of ours are in it: it did not know of them."""
        return [self.mine(room.owner, room.id, room.code, room)] if room.here else []

    def _copy_for_entering(self, record: RoomRecord, now: float) -> Room | None:
        """A new copy, if the owner lets one of ours enter."""
        listed = {one.session_id for one in record.members if one.home == self.me}
        if not listed & self.entrance.waiting_for(record.id).keys():
            return None
        room = Room(id=record.id, code=record.code, active_at=now, owner=record.owner)
        self._table.add(room)
        return room

    def _apply(self, room: Room, record: RoomRecord, now: float) -> list[RoomOutput]:
        """Make a copy as its owner says; our own members are as they are."""
        mine = {member.session_id: member for member in room.here}
        members: dict[str, Member] = {}
        entered: list[Member] = []
        waiting, differs = self.entrance.waiting_for(room.id), False
        for said in record.members:
            session_id = said.session_id
            if said.home != self.me:
                if mine.pop(session_id, None) is not None:
                    self._table.of.pop(session_id, None)
                members[session_id] = self._member(said, room.members.get(session_id))
            elif session_id in mine:
                members[session_id] = mine.pop(session_id)
            elif session_id in waiting:
                members[session_id] = self._member(said, None)
                entered.append(members[session_id])
            else:
                differs = True
        members.update(mine)
        if room.owner == HERE:
            self._table.deadlines.set(room.id, None)
        room.members = members
        is_news = room.owner != record.owner
        room.owner, room.epoch, room.version = record.owner, record.epoch, record.version
        for member in room.here:
            for absent in member.raw_voice.keys() - members.keys():
                del member.raw_voice[absent]
        outputs: list[RoomOutput] = []
        for member in entered:
            # which also ends its wait; in this room it is seated only then
            outputs += self._rooms.leave(member.session_id)
            self._table.seat(room, member, waiting[member.session_id].guest.next_index)
        room.active_at = now if entered else room.active_at
        new, news = {member.session_id for member in entered}, room.news()
        for member in room.here:
            if member.session_id in new:
                outputs += welcome(room, member.session_id)
            elif news is not None:
                outputs.append(Tell(member.session_id, news))
        self._watch(room)
        if differs or mine or is_news:
            outputs.append(self.mine(room.owner, room.id, room.code, room))
        if not room.here:
            self._table.close(room)
        return outputs

    def _member(self, said: MemberRecord, known: Member | None) -> Member:
        """A member as its home tells it."""
        return Member(
            session_id=said.session_id,
            joined_at=said.joined_at if known is None else known.joined_at,
            speaks=said.speaks,
            hears=said.hears,
            home=HERE if said.home == self.me else said.home or AWAY,
            keeps=said.keeps,
            display_name=said.display_name,
            preferred_lang=said.preferred_lang,
            raw_voice=dict(said.raw_voice),
            starts=Bucket(SPEAKING_BURST, SPEAKING_PER_S),
        )

    def mine(
        self,
        owner: str,
        room_id: str,
        code: str,
        room: Room | None,
        *,
        moved: list[str] | None = None,
        quiet_s: float = 0.0,
    ) -> Post:
        """A letter with all members that are here, and those that want to enter."""
        members = [] if room is None else [member.record(self.me) for member in room.here]
        here = {said.session_id for said in members}
        members += [
            wanted.member.record(self.me)
            for session_id, wanted in self.entrance.waiting_for(room_id).items()
            if session_id not in here and wanted.member is not None
        ]
        letter = RoomMine(
            room=room_id,
            code=code,
            number=next(self._numbers),
            epoch=0 if room is None else room.epoch,
            version=0 if room is None else room.version,
            members=members,
            moved=moved or [],
            quiet_s=quiet_s,
        )
        return Post(owner, letter, room_id)

    def _is(self, room: Room) -> RoomIs:
        return RoomIs(room.record(self.me))

    def _watch(self, room: Room, now: float | None = None) -> None:
        """Tell again later, for letters may get lost."""
        alone = room.owner == HERE and all(one.home == HERE for one in room.members.values())
        if self._again.at(room.id) is None and not alone:
            pause_s = min(REPORT_S, self._grace_s, self._rooms.rules.idle_s / 4)
            self._again.set(room.id, (room.active_at if now is None else now) + pause_s)
