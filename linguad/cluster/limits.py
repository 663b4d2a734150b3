"""What all instances together let each tenant of the public API do: one bucket and one count in Redis.

Each instance tells how many sessions of a tenant it has, as a count that ends by itself unless it is told
again. So nothing adds up wrongly: a lost reply, a second telling or a process that is killed leave no slot
taken for longer than that (gateway 4.3). What is told is numbered, since a script that Redis does not know
yet is sent again, and then in any order. A count includes sessions that still wait for their answer, so that
a later telling speaks for the earlier ones.
"""

from __future__ import annotations

from itertools import count
from typing import cast

import trio

from linguad import log
from linguad.cluster.service import Cluster
from linguad.core.limits import Leases, Standing, Verdict, Wish
from linguad.net.redis.errors import RedisAway, RedisRefusal
from linguad.net.redis.scripts import Script

PATIENCE_S = 0.5
"""How long a request waits for Redis before its own instance decides, s."""

RENEW_HEARTBEATS = 2
"""Sessions are told again so often, in heartbeats: every 10 s with the usual ones."""

LEASE_HEARTBEATS = 6
"""What was not told again for so long is free: 30 s."""

US = 1_000_000

ADMIT = Script(
    "admit",
    # Keys: rate, sessions of the tenant. Arguments: boot, ms to live of its sessions, burst (0: count no
    # request), requests per second, its sessions with the new one (0: none wanted), most of all, number.
    # The rate is the time at which the bucket is full again, in us.
    # Gives whether the request may go on, tokens left, us until full and until the next token, whether the
    # session may begin, and the sessions elsewhere.
    """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local elsewhere, latest = 0, -1
local told = redis.call('HGETALL', KEYS[2])
for i = 1, #told, 2 do
  local count, ends, number = string.match(told[i + 1], '^(%d+) (%d+) (%d+)$')
  if not number or tonumber(ends) <= now then
    redis.call('HDEL', KEYS[2], told[i])
  elseif told[i] == ARGV[1] then
    latest = tonumber(number)
  else
    elsewhere = elsewhere + tonumber(count)
  end
end
local left, full, wait, session = 0, 0, 0, 0
local burst = tonumber(ARGV[3])
if burst > 0 then
  local step = 1000000 / tonumber(ARGV[4])
  local all = burst * step
  full = math.min(math.max(0, tonumber(redis.call('GET', KEYS[1]) or 0) - now), all)
  wait = math.max(0, full + step - all)
  if wait < 1 then wait, full = 0, math.min(full + step, all) end
  -- also where it has to wait: after a change of limits it is sooner full than it was
  local ms = string.format('%.0f', full / 1000 + 1)
  redis.call('SET', KEYS[1], string.format('%.0f', now + full), 'PX', ms)
  left = math.floor((all - full) / step + 0.000001)
end
local count = tonumber(ARGV[5])
if wait == 0 and count > 0 and elsewhere + count <= tonumber(ARGV[6]) then
  session = 1
  if tonumber(ARGV[7]) > latest then
    redis.call('HSET', KEYS[2], ARGV[1], string.format('%d %.0f %d', count, now + ARGV[2] * 1000, ARGV[7]))
    redis.call('PEXPIRE', KEYS[2], ARGV[2])
  end
end
return {wait == 0 and 1 or 0, left, math.ceil(full), math.ceil(wait), session, elsewhere}
""",
)

TELL = Script(
    "tell_sessions",
    # Key: sessions of the tenant. Arguments: boot, ms to live, sessions, number. A later telling stays.
    """
local told = redis.call('HGET', KEYS[1], ARGV[1])
local latest = told and tonumber(string.match(told, '(%d+)$')) or -1
if tonumber(ARGV[4]) < latest then return 0 end
local time = redis.call('TIME')
local ends = time[1] * 1000000 + time[2] + ARGV[2] * 1000
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %.0f %d', ARGV[3], ends, ARGV[4]))
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""",
)

logger = log.get(__name__)


class SharedLimits:
    """Mutable state: the tenants whose sessions have to be told. `run` in a task."""

    def __init__(self, cluster: Cluster, leases: Leases) -> None:
        """`leases` are the sessions of this instance."""
        self._place = cluster.place
        self._leases = leases
        self._renew_s = RENEW_HEARTBEATS * cluster.heartbeat_s
        self._lease_ms = round(LEASE_HEARTBEATS * cluster.heartbeat_s * 1000)
        self._numbers = count()
        self._untold: set[str] = set()
        self._news = trio.Event()
        self._away = False
        cluster.when_up(self._tell_all)

    async def ask(self, wish: Wish) -> Verdict | None:
        """What all instances together say to a wish, in one round trip; None if Redis cannot say."""
        place, keys = self._place, self._place.keys
        words = (
            place.me.boot,
            self._lease_ms,
            wish.burst,
            repr(wish.per_second),
            wish.sessions,
            wish.most_sessions,
            next(self._numbers),
        )
        reason, reply = "it is slow", None
        with trio.move_on_after(PATIENCE_S):
            try:
                names = [keys.of("t", wish.tenant, what) for what in ("rate", "sessions")]
                reply = await ADMIT(place.redis.caller, names, words)
            except (RedisAway, RedisRefusal) as error:
                reason = str(error)
        self._seen("" if reply is not None else reason)
        if wish.sessions and reply is None:
            # it may have heard of a session, or not
            self.changed(wish.tenant)
        return None if reply is None else _verdict(wish, cast("list[int]", reply))

    def changed(self, tenant: str) -> None:
        """The tenant has another number of sessions here than Redis was told."""
        self._untold.add(tenant)
        self._news.set()

    async def run(self) -> None:
        """Tell Redis what sessions there are, for ever."""
        while True:
            with trio.move_on_after(self._renew_s) as pause:
                await self._news.wait()
            self._news = trio.Event()
            if pause.cancelled_caught:
                self._untold.update(self._leases.tenants())
            while self._untold and await self._tell(self._untold.pop()):
                pass

    async def _tell(self, tenant: str) -> bool:
        place = self._place
        words = (place.me.boot, self._lease_ms, self._leases.used(tenant), next(self._numbers))
        try:
            await TELL(place.redis.caller, [place.keys.of("t", tenant, "sessions")], words)
        except (RedisAway, RedisRefusal) as error:
            # told when it is back or the time comes; whoever has none here is forgotten by the lease
            self._seen(str(error))
            return False
        return True

    def _tell_all(self) -> None:
        self._untold.update(self._leases.tenants())
        self._news.set()

    def _seen(self, reason: str) -> None:
        if bool(reason) != self._away:
            self._away = bool(reason)
            if reason:
                logger.warning("limits_not_shared", reason=reason)
            else:
                logger.info("limits_shared")


def _verdict(wish: Wish, reply: list[int]) -> Verdict:
    goes_on, left, full_us, wait_us, session, elsewhere = reply
    standing = Standing(
        limit=wish.burst,
        remaining=left,
        full_in_s=full_us / US,
        wait_s=0.0 if goes_on else max(wait_us, 1) / US,
    )
    return Verdict(standing=standing, session=bool(session), sessions_elsewhere=elsewhere)
