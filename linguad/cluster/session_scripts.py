"""The scripts of sessions, rooms and pairing codes. Keys of one are of one thing; the clock is Redis's."""

from __future__ import annotations

from linguad.net.redis.scripts import Script

WRITE_SESSION = Script(
    "write_session",
    # Keys: lease, resume. Arguments: our name, boot, our epoch or 0, ms to live, hash of the token, record.
    # Gives the epoch, or nothing if another has it. Without a lease it is ours again: Redis lost its data.
    """
local held = redis.call('HMGET', KEYS[1], 'instance', 'boot', 'epoch')
local epoch = tonumber(ARGV[3])
if held[1] then
  if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then return false end
  epoch = math.max(epoch, tonumber(held[3]))
end
if epoch == 0 then
  local time = redis.call('TIME')
  epoch = time[1] * 1000 + math.floor(time[2] / 1000)
end
redis.call('HSET', KEYS[1], 'instance', ARGV[1], 'boot', ARGV[2], 'epoch', epoch)
redis.call('HSET', KEYS[2], 'token', ARGV[5], 'record', ARGV[6])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return epoch
""",
)

TAKE_SESSION = Script(
    "take_session",
    # Keys: lease, resume. Arguments: hash of the token, the new owner, its boot.
    # Gives the record, the new epoch and the owner before; nothing if it is not known, or not this token.
    """
local found = redis.call('HMGET', KEYS[2], 'token', 'record')
if not found[1] or found[1] ~= ARGV[1] then return false end
local held = redis.call('HMGET', KEYS[1], 'instance', 'epoch')
local time = redis.call('TIME')
local epoch = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(held[2] or 0) + 1)
redis.call('HSET', KEYS[1], 'instance', ARGV[2], 'boot', ARGV[3], 'epoch', epoch)
local left = redis.call('PTTL', KEYS[2])
if left > 0 then redis.call('PEXPIRE', KEYS[1], left) end
return {found[2], epoch, held[1] or ''}
""",
)

END_SESSION = Script(
    "end_session",
    # Keys: lease, resume. Arguments: our name, boot. Removes what is ours.
    """
local held = redis.call('HMGET', KEYS[1], 'instance', 'boot')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
return 1
""",
)

HOLD_ROOM = Script(
    "hold_room",
    # Key: the room of a code. Arguments: id of the room, its owner, epoch or 0, ms to live.
    # The code is the owner's if nobody has it, and stays so. Gives owner, id and epoch that hold.
    """
local held = redis.call('HMGET', KEYS[1], 'owner', 'id', 'epoch')
if held[1] and (held[1] ~= ARGV[2] or held[2] ~= ARGV[1]) then return held end
local epoch = math.max(tonumber(ARGV[3]), tonumber(held[3] or 0))
if epoch == 0 then
  local time = redis.call('TIME')
  epoch = time[1] * 1000 + math.floor(time[2] / 1000)
end
redis.call('HSET', KEYS[1], 'owner', ARGV[2], 'id', ARGV[1], 'epoch', string.format('%.0f', epoch))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return redis.call('HMGET', KEYS[1], 'owner', 'id', 'epoch')
""",
)

TAKE_ROOM = Script(
    "take_room",
    # Key: the room of a code. Arguments: id of the room, the new owner, ms to live, the owner that is gone.
    # Whoever comes first gets it. Gives owner, id and epoch that hold.
    """
local held = redis.call('HMGET', KEYS[1], 'owner', 'id', 'epoch')
if held[1] and (held[2] ~= ARGV[1] or held[1] ~= ARGV[4]) then return held end
local time = redis.call('TIME')
local epoch = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(held[3] or 0) + 1)
redis.call('HSET', KEYS[1], 'owner', ARGV[2], 'id', ARGV[1], 'epoch', string.format('%.0f', epoch))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return redis.call('HMGET', KEYS[1], 'owner', 'id', 'epoch')
""",
)

RELEASE_ROOM = Script(
    "release_room",
    # Key: the room of a code. Arguments: id of the room, its owner. Removes what is ours.
    """
local held = redis.call('HMGET', KEYS[1], 'owner', 'id')
if held[1] ~= ARGV[2] or held[2] ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""",
)

DROP_CODE = Script(
    "drop_code",
    # Key: a pairing code. Argument: whose it is. Removes it, unless it is another's.
    """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""",
)
