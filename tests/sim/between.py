"""What is between instances: their inboxes and the directory of nodes, as Redis keeps them, and its troubles.

Letters from one process to another come in order, all of them, unless Redis loses all it has. An instance may
be cut off from it; then the others take it for dead after a while.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec

from linguad.cluster.remote import CHECK_S, Remote
from linguad.cluster.roster import Roster, with_epoch
from linguad.core.afar import Afar
from linguad.core.guests import Guests
from linguad.wire.letters import Letter
from linguad.wire.record import NodeRecord

from .world import World

if TYPE_CHECKING:
    from .server import Server

SIGN_OF_LIFE_S = 10.0
POLL_S = 2.0
GATHER_S = 0.02


@dataclass(frozen=True)
class Troubles:
    """What befalls Redis and the ways there; chances, and mean seconds between, 0 for never."""

    lag_s: float = 0.005
    """Longest way to Redis."""
    repeats: float = 0.0
    cut_off_every_s: float = 0.0
    """One instance is cut off."""
    fails_every_s: float = 0.0
    """All are cut off."""
    forgets: float = 0.0
    """Chance that Redis has lost everything when it is back."""
    kills_every_s: float = 0.0
    """An instance dies; another one of its name comes some time later."""


class Between:
    """Redis, and who is connected to it."""

    def __init__(self, world: World, troubles: Troubles) -> None:
        self.members: list[Member] = []
        """Of all processes that live."""
        self.troubles = troubles
        self.quiet = False
        """No more troubles."""
        self._world = world
        self._down = False
        self._numbers = count(1)
        self.records: dict[str, tuple[str, int, NodeRecord]] = {}
        self._epochs = count(1)
        self.boots = count(1)
        again = world.again_and_again
        again(troubles.cut_off_every_s, self._cut_off_one, self._going_on)
        again(troubles.fails_every_s, self._fail, self._going_on)

    def first_number(self) -> int:
        """From which one process counts, so that no two give the same name."""
        return next(self._numbers) * 1_000_000

    def _going_on(self) -> bool:
        return not self.quiet

    def lag(self) -> float:
        """How long something is on its way."""
        return self._world.between(0.0003, self.troubles.lag_s)

    def can(self, member: Member) -> bool:
        """Whether Redis can be reached from there."""
        return not self._down and not member.cut and not member.server.process.dead

    def write(self, member: Member, record: NodeRecord, done: Callable[[str, int], None]) -> None:
        """A record arrives in Redis; the reply is the owner and the epoch that hold now."""
        owner, epoch, _ = self.records.get(record.node, ("", 0, record))
        if record.epoch == 0 or record.epoch >= epoch:
            epoch = record.epoch or next(self._epochs)
            owner = member.name
            self.records[record.node] = owner, epoch, with_epoch(record, epoch)
            self._hint(record.node)
        self._world.after(self.lag(), self._reply, member, done, owner, epoch)

    def remove(self, member: Member, node_id: str) -> None:
        """A record is taken back, if it is still of that process."""
        held = self.records.get(node_id)
        if held is not None and held[2].boot == member.boot:
            del self.records[node_id]
            self._hint(node_id)
        self._world.after(self.lag(), self._removed, member, node_id)

    def _removed(self, member: Member, node_id: str) -> None:
        if self.can(member):
            member.server.process.reach(member.roster.withdrawn, node_id)

    def bury(self, name: str) -> None:
        """What an instance left that lives no more."""
        for node_id in [node_id for node_id, held in self.records.items() if held[0] == name]:
            del self.records[node_id]

    def _reply(self, member: Member, done: Callable[[str, int], None], owner: str, epoch: int) -> None:
        if self.can(member):
            member.server.process.reach(done, owner, epoch)

    def _hint(self, node_id: str) -> None:
        for member in self.members:
            self._world.after(self.lag(), member.read, node_id)

    def _cut_off_one(self) -> None:
        if self.members:
            member = self._world.random.choice(self.members)
            seconds = self._world.random.choice([0.5, 5.0, 15.0, 40.0])
            self._world.say("between", f"{member.name} is cut off for {seconds} s")
            member.cut = True
            self._world.after(0.0, member.notice)
            self._world.after(seconds, self._mend, member)

    def _mend(self, member: Member) -> None:
        member.cut = False
        self._world.say("between", f"{member.name} is back")

    def _fail(self) -> None:
        if not self._down:
            seconds = self._world.random.choice([0.5, 5.0, 15.0, 40.0])
            self._world.say("between", f"Redis is away for {seconds} s")
            self._down = True
            for member in self.members:
                self._world.after(0.0, member.notice)
            self._world.after(seconds, self._come_back)

    def _come_back(self) -> None:
        self._down = False
        if self._world.chance(self.troubles.forgets):
            self._world.say("between", "Redis has forgotten everything")
            self.records.clear()
            for member in self.members:
                member.inbox.clear()


class Box:
    """The face of `cluster.bus.Bus`: letters between two processes come in order."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._kinds: dict[type[Letter], Callable[[str, Any, bytes], None]] = {}
        self._last: dict[Member, float] = {}

    def on(self, kind: type[Letter], handle: Callable[[str, Any, bytes], None]) -> None:
        self._kinds[kind] = handle

    def send(self, instance: str, letter: Letter, *, lane: str, expires_s: float, audio: bytes = b"") -> bool:
        member, to = self._member, self._member.knows.get(instance)
        if not member.up or to is None:
            return False
        world, between = member.world, member.between
        body = msgspec.msgpack.encode(letter)
        at = self._last[to] = max(self._last.get(to, 0.0), world.now + between.lag())
        for _ in range(2 if world.chance(between.troubles.repeats) else 1):
            world.after(at - world.now, self._arrive, to, type(letter), body, audio, world.now + expires_s)
        return True

    def _arrive(self, to: Member, kind: type[Letter], body: bytes, audio: bytes, expires_at: float) -> None:
        """In the inbox; read from it as soon as that is possible."""
        to.inbox.append((self._member.name, kind, body, audio, expires_at))
        to.read_inbox()

    def take(self, sender: str, kind: type[Letter], body: bytes, audio: bytes) -> None:
        self._kinds[kind](sender, msgspec.msgpack.decode(body, type=kind), audio)


class Member:
    """One process as a member: its box, its view of the others, its roster."""

    def __init__(self, server: Server, between: Between) -> None:
        self.server = server
        self.between = between
        self.name = server.name
        self.boot = f"boot-{next(between.boots)}"
        self.world = between._world
        self.cut = False
        self.up = False
        self.inbox: list[tuple[str, type[Letter], bytes, bytes, float]] = []
        self.knows: dict[str, Member] = {}
        self._gone: list[Callable[[str], None]] = []
        self._new: list[Callable[[str], None]] = []
        self._seen_at = self.world.now
        self.box = Box(self)
        dispatch = server.dispatch
        self.afar = Afar(dispatch)
        self.guests = Guests(server.fleet, server.settings.jobs, dispatch.amnesty)
        now = server.process.now
        self.remote = Remote(server.engine, self.afar, self.guests, self.box, self, now)
        server.engine.join(self.guests, self.remote)
        self.roster = Roster(
            self.name,
            self.boot,
            dispatch,
            self.afar,
            self.guests,
            server.engine,
            server.nodes,
            self._is_boot,
            now,
        )
        self._flushing = False
        self._last = 0.0
        self.roster.when_dirty = self._soon
        between.members.append(self)
        server.process.after(0.1, self._live)
        server.process.after(POLL_S, self._poll)
        server.process.after(CHECK_S, self._check)

    # The face of `cluster.peers.Peers`

    def alive(self) -> Mapping[str, object]:
        return self.knows

    def is_alive(self, name: str) -> bool:
        return name in self.knows

    def _is_boot(self, name: str, boot: str) -> bool:
        return name in self.knows and self.knows[name].boot == boot

    def when_gone(self, do: Callable[[str], None]) -> None:
        self._gone.append(do)

    def when_new(self, do: Callable[[str], None]) -> None:
        self._new.append(do)

    def die(self) -> None:
        """The process ends."""
        self.between.members.remove(self)

    # Presence

    def notice(self) -> None:
        """Redis is away; the process learns of it at once."""
        self.server.process.reach(self._fall)

    def _fall(self) -> None:
        if self.up and not self.between.can(self):
            self.up = False
            self.remote.down()

    def _live(self) -> None:
        """Say that we live, and look who else does."""
        self.server.process.after(1.0, self._live)
        if not self.between.can(self):
            self._fall()
            return
        rose = not self.up
        if rose:
            self._trusted_at = self.world.now + SIGN_OF_LIFE_S
        self._seen_at = self.world.now
        found = {m.name: m for m in self.between.members if m is not self and self._has_sign(m)}
        for name, member in list(self.knows.items()):
            other = found.get(name)
            if other is not member and (other is not None or self.world.now >= self._trusted_at):
                del self.knows[name]
                self.between.bury(name) if other is None else None
                for do in self._gone:
                    do(name)
        fresh = [name for name in found if name not in self.knows]
        self.knows |= found
        for name in fresh:
            for do in self._new:
                do(name)
        if rose:
            self.up = True
            self.remote.up()
            self.roster.everything()
            self.read_inbox()
        if rose or fresh:
            self._read_all()

    def _has_sign(self, other: Member) -> bool:
        return self.world.now - other._seen_at < SIGN_OF_LIFE_S

    def read_inbox(self) -> None:
        """Take what lies there."""
        if self.between.can(self) and self.up:
            unread, self.inbox = self.inbox, []
            for sender, kind, body, audio, expires_at in unread:
                if self.world.now < expires_at:
                    self.server.process.reach(self.box.take, sender, kind, body, audio)

    # The directory

    def read(self, node_id: str) -> None:
        """A hint came."""
        if self.between.can(self):
            self.server.process.reach(self._heard, node_id)

    def _heard(self, node_id: str) -> None:
        held = self.between.records.get(node_id)
        if self.up:
            self.roster.heard(node_id, None if held is None else held[2])

    def _poll(self) -> None:
        self.server.process.after(POLL_S, self._poll)
        if self.between.can(self) and self.up:
            self._read_all()

    def _read_all(self) -> None:
        for node_id in {**dict.fromkeys(self.between.records), **dict.fromkeys(self.server.fleet.nodes)}:
            self._heard(node_id)

    def _soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self.server.process.after(GATHER_S, self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if not (self.up and self.between.can(self)):
            return
        for node_id in self.roster.take_dirty(1_000):
            offered = self.roster.offer(node_id)
            if offered is None:
                self._to_redis(self.between.remove, self, node_id)
                continue
            record, connection, _ = offered
            done = self._written(node_id, connection)
            self._to_redis(self.between.write, self, record, done)

    def _to_redis(self, do: Callable[..., None], *args: Any) -> None:
        """Commands of one connection are done in order."""
        self._last = max(self._last, self.world.now + self.between.lag())
        self.world.after(self._last - self.world.now, do, *args)

    def _written(self, node_id: str, connection: int) -> Callable[[str, int], None]:
        def done(owner: str, epoch: int) -> None:
            if owner == self.name:
                self.roster.leased(node_id, connection, epoch)
            else:
                self._heard(node_id)

        return done

    def _check(self) -> None:
        self.server.process.after(CHECK_S, self._check)
        self.remote.check()
