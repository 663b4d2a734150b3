"""The scripts of presence and inboxes. All keys of one are of one instance; the clock is Redis's."""

from __future__ import annotations

from linguad.net.redis.scripts import Script

ANNOUNCE = Script(
    "announce",
    # Key: alive. Arguments: boot, JSON, ms to live.
    # Gives the time in ms, whether we lived already, and who has the name if another does.
    # Without memory nothing new can be written, but what is there can be kept.
    """
local held = redis.call('GET', KEYS[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if held and cjson.decode(held).boot ~= ARGV[1] then return {now, 0, held} end
local set = redis.pcall('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if set.err then
  if not held then return set end
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return {now, held and 1 or 0, false}
""",
)

LEAVE = Script(
    "leave",
    # Keys: alive, inbox, acked, dlq. Argument: boot. Removes what is ours, unless another has the name.
    # Gives 1 if nothing is left that another has to look after.
    """
local held = redis.call('GET', KEYS[1])
if held and cjson.decode(held).boot ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if redis.call('XLEN', KEYS[2]) > 0 then return 0 end
redis.call('DEL', KEYS[2], KEYS[3])
return 1 - redis.call('EXISTS', KEYS[4])
""",
)

SEEN = Script(
    "seen",
    # Key: the set of instances. Argument: an instance. Without memory one that is listed stays so.
    """
local time = redis.call('TIME')
local added = redis.pcall('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
if type(added) == 'table' and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return added end
return 1
""",
)

SEND = Script(
    "send",
    # Keys: alive, inbox, acked of the receiver. Arguments: boot, account, sender, then for each letter
    # kind, body, audio, lane, seq, ms to live. Nothing is written to a process that is gone.
    # Gives the bytes it is done with and the entries before, or nothing.
    """
local held = redis.call('GET', KEYS[1])
if not held or cjson.decode(held).boot ~= ARGV[1] then return false end
local before = redis.call('XLEN', KEYS[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 4, #ARGV, 6 do
  redis.call('XADD', KEYS[2], '*', 'kind', ARGV[i], 'body', ARGV[i + 1], 'audio', ARGV[i + 2],
    'lane', ARGV[i + 3], 'seq', ARGV[i + 4], 'from', ARGV[3], 'to', ARGV[1], 'account', ARGV[2],
    'at_ms', now, 'expires_ms', now + ARGV[i + 5])
end
return {tonumber(redis.call('HGET', KEYS[3], ARGV[2]) or 0), before}
""",
)

DONE = Script(
    "done",
    # Keys: inbox, acked. Arguments: ms to live of the counts, then for each letter id, account, bytes.
    # What was removed before is not counted twice.
    """
local done = 0
for i = 2, #ARGV, 3 do
  if redis.call('XDEL', KEYS[1], ARGV[i]) == 1 then
    redis.call('HINCRBY', KEYS[2], ARGV[i + 1], ARGV[i + 2])
    done = done + 1
  end
end
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return done
""",
)

ADOPT = Script(
    "adopt",
    # Keys: alive, adopter, heirs of the dead. Arguments: the adopter, ms to live of that, of the heirs.
    # One gets it, if nobody lives there. Gives how many have got it by now, or 0.
    """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
local heirs = redis.call('INCR', KEYS[3])
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return heirs
""",
)

BURY = Script(
    "bury",
    # Keys: alive, adopter, heirs, inbox, acked, dlq of the dead. Argument: the adopter.
    # Not if it lives again, not if another adopted it, not while letters lie there.
    """
if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
if redis.call('XLEN', KEYS[4]) > 0 then return 0 end
redis.call('DEL', unpack(KEYS, 2))
return 1
""",
)

WRITE_NODE = Script(
    "write_node",
    # Key: the record of a node. Arguments: boot, epoch or 0 for a new lease, ms to live, record.
    # Gives the boot and the epoch that hold: another's, if that has the newer lease.
    """
local held = redis.call('HMGET', KEYS[1], 'boot', 'epoch')
local last, epoch = tonumber(held[2] or 0), tonumber(ARGV[2])
if epoch == 0 then
  local time = redis.call('TIME')
  epoch = math.max(last + 1, time[1] * 1000000 + time[2])
elseif last > epoch then
  return {held[1], last}
end
redis.call('HSET', KEYS[1], 'boot', ARGV[1], 'epoch', string.format('%.0f', epoch), 'body', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {ARGV[1], epoch}
""",
)

REMOVE_NODE = Script(
    "remove_node",
    # Key: the record of a node. Argument: boot. Only what this process wrote.
    """
if redis.call('HGET', KEYS[1], 'boot') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""",
)

NOTE_NODES = Script(
    "note_nodes",
    # Keys: seq, nodes, gone of a bucket. Arguments: channel, bucket, ms until what is gone is forgotten, then
    # for each node its id and whether it is gone. Gives the last number.
    """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local seq = 0
for i = 4, #ARGV, 2 do
  seq = redis.call('INCR', KEYS[1])
  redis.call('ZADD', KEYS[2], seq, ARGV[i])
  if ARGV[i + 1] == '1' then redis.call('ZADD', KEYS[3], now, ARGV[i])
  else redis.call('ZREM', KEYS[3], ARGV[i]) end
end
for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now - ARGV[3], 'LIMIT', 0, 100)) do
  redis.call('ZREM', KEYS[2], old)
  redis.call('ZREM', KEYS[3], old)
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return seq
""",
)
