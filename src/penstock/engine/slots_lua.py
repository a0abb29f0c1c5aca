"""The scripts of the Redis store, in Lua: what one request does there, atomically.

They count, compare and write; what may be spent is decided in Python (`slots_redis`). Keys of the
window K, in one slot of a cluster, for a replaced token's script touches two windows:

    w:K  hash        standing, version (of what was decided), last slot, born, run, told, root
    h:K  sorted set  slots that are held: `UNTIL:SLOT`, all of score 0, so ordered as text
    f:K  hash        slots in flight: SLOT → holder
    o:K  hash        holders that have the key open: holder → slots in flight
    beats  sorted set  holder by its last beat (epoch in µs)
    profiles  hash   profile → the key it last spent
    t:F  string      when the token of the fingerprint F was refused
"""

from __future__ import annotations

PREFIX = "penstock:{quota}:"
# What nobody asked for in a month is forgotten.
KEPT_MS = 30 * 86_400_000

# Times are 19 digits of nanoseconds, compared as text: a double holds 2^53, the epoch needs 2^61.
_TIMES = """
local P = '@PREFIX@'
local function stamp(s, n) return string.format('%010d%09d', s, n) end
local function plus(s, n, by_s, by_n)
  s, n = s + by_s, n + by_n
  if n >= 1000000000 then s, n = s + 1, n - 1000000000 end
  if n < 0 then s, n = s - 1, n + 1000000000 end
  return s, n
end
local time = redis.call('TIME')
local micros = tonumber(time[1]) * 1000000 + tonumber(time[2])
local function now_of(text)
  if text == '' then return tonumber(time[1]), tonumber(time[2]) * 1000 end
  return tonumber(string.sub(text, 1, 10)), tonumber(string.sub(text, 11))
end
local function span(text)
  return tonumber(string.sub(text, 1, 10)), tonumber(string.sub(text, 11))
end
-- Tells a restart, and so what may have been forgotten.
local function server()
  local info = redis.call('INFO', 'server')
  return string.match(info, 'run_id:(%w+)'), tonumber(string.match(info, 'uptime_in_seconds:(%d+)'))
end
"""


def _with_times(text: str) -> str:
    return (_TIMES + text).replace("@PREFIX@", PREFIX).replace("@KEPT@", str(KEPT_MS))


# ARGV: now ('' is the server's), T, delay + T, holder, dead after (µs), version ('' to look only),
# the decision (JSON), then the slots that are asked after.
TURN = _with_times("""
local w, h, f, o, beats, token = unpack(KEYS)
local s, n = now_of(ARGV[1])
local now = stamp(s, n)
local late = stamp(plus(s, n, span(ARGV[2])))
local grave_s, grave_n = plus(s, n, span(ARGV[3]))
local me, dead_after = ARGV[4], tonumber(ARGV[5])
local run, up = server()
redis.call('ZADD', beats, micros, me)

local known = redis.call('HGET', w, 'version') or '0'
local committed = 0
if ARGV[6] == known then
  committed = 1
  local what = cjson.decode(ARGV[7])
  local function out(slot)
    if redis.call('HDEL', f, slot) == 1 then redis.call('HINCRBY', o, me, -1) end
  end
  for _, slot in ipairs(what.back) do out(slot) end
  for _, pair in ipairs(what.held) do
    out(pair[1])
    redis.call('ZADD', h, 0, pair[2] .. ':' .. pair[1])
  end
  redis.call('HINCRBY', o, me, 0)
  for _, slot in ipairs(what.take) do
    if redis.call('HSET', f, slot, me) == 1 then redis.call('HINCRBY', o, me, 1) end
  end
  redis.call('HSET', w, 'version', what.version, 'standing', what.standing, 'probe', what.probe,
    'last', what.last, 'born', what.born, 'run', run, 'told', now, 'done ' .. me, what.done)
  redis.call('HSETNX', w, 'root', what.root)
  if what.refused then redis.call('SET', token, now, 'PX', what.remembered) end
  for _, name in ipairs({w, h, f, o}) do redis.call('PEXPIRE', name, what.kept) end
  return {1}
end

redis.call('ZREMRANGEBYLEX', h, '-', '(' .. now .. ';')
local holders = redis.call('HGETALL', o)
for i = 1, #holders, 2 do
  local other = holders[i]
  if other ~= me then
    local beat = redis.call('ZSCORE', beats, other)
    local overdue = 0
    if beat then overdue = micros - tonumber(beat) - dead_after end
    if overdue >= 0 then
      local by_s = math.floor(overdue / 1000000)
      local until_s, until_n = plus(grave_s, grave_n, -by_s, -(overdue - by_s * 1000000) * 1000)
      local rest = stamp(until_s, until_n)
      local flying = redis.call('HGETALL', f)
      for j = 1, #flying, 2 do
        if flying[j + 1] == other then
          redis.call('HDEL', f, flying[j])
          if rest > now then redis.call('ZADD', h, 0, rest .. ':' .. flying[j]) end
        end
      end
      redis.call('HDEL', o, other)
      redis.call('HDEL', w, 'done ' .. other)
    end
  end
end

local row = redis.call('HMGET', w,
  'standing', 'probe', 'last', 'born', 'run', 'told', 'done ' .. me)
local flies = {}
for i = 8, #ARGV do flies[#flies + 1] = redis.call('HEXISTS', f, ARGV[i]) end
return {0, now, known, row[1] or '', row[3] or '0', row[4] or '', row[5] or '', row[6] or now,
  row[7] or '', run, up,
  redis.call('ZCARD', h), redis.call('ZLEXCOUNT', h, '(' .. late .. ';', '+'),
  redis.call('HLEN', f), tonumber(redis.call('HGET', o, me) or '0'),
  redis.call('ZRANGE', h, 0, 0)[1] or '', redis.call('GET', token) or '',
  (row[2] and row[2] ~= '') and redis.call('HEXISTS', f, row[2]) or 0, flies}
""")

# ARGV: now, delay + T, holder, key, profile, a new standing, born, how old (s) a Redis must be
# for a key to begin on it.
OPEN = _with_times("""
local s, n = now_of(ARGV[1])
local now = stamp(s, n)
local latest = stamp(plus(s, n, span(ARGV[2])))
local me, key, profile = ARGV[3], ARGV[4], ARGV[5]
local function root_of(some) return redis.call('HGET', P .. 'w:' .. some, 'root') or some end
local function counts(some)
  redis.call('ZREMRANGEBYLEX', P .. 'h:' .. some, '-', '(' .. now .. ';')
  return redis.call('ZCARD', P .. 'h:' .. some) + redis.call('HLEN', P .. 'f:' .. some) > 0
end
local run, up = server()
local last = profile ~= '' and redis.call('HGET', P .. 'profiles', profile)
local known = redis.call('EXISTS', P .. 'w:' .. key) == 1 or last
if not known and up < tonumber(ARGV[8]) then return {'young', up} end

local root = root_of(key)
local inherited = last and root_of(last) or root
if inherited ~= root and counts(inherited) then
  for _, row in ipairs(redis.call('ZRANGE', P .. 'h:' .. root, 0, -1)) do
    redis.call('ZADD', P .. 'h:' .. inherited, 0, row)
  end
  redis.call('DEL', P .. 'h:' .. root)
  root = inherited
end
redis.call('HSETNX', P .. 'w:' .. key, 'version', '1')
redis.call('HSETNX', P .. 'w:' .. key, 'standing', ARGV[6])
redis.call('HSETNX', P .. 'w:' .. key, 'born', ARGV[7])
redis.call('HSETNX', P .. 'w:' .. key, 'run', run)
redis.call('HSET', P .. 'w:' .. key, 'root', root)
redis.call('PEXPIRE', P .. 'w:' .. key, '@KEPT@')
if profile ~= '' then redis.call('HSET', P .. 'profiles', profile, key) end
redis.call('HINCRBY', P .. 'o:' .. root, me, 0)
redis.call('ZADD', P .. 'beats', micros, me)
redis.call('ZREMRANGEBYSCORE', P .. 'beats', '-inf', micros - 86400000000)
for _, row in ipairs(redis.call('ZRANGEBYLEX', P .. 'h:' .. root, '(' .. latest .. ';', '+')) do
  redis.call('ZREM', P .. 'h:' .. root, row)
  redis.call('ZADD', P .. 'h:' .. root, 0, latest .. ':' .. string.match(row, ':(.*)'))
end
local there = redis.call('HMGET', P .. 'w:' .. root, 'born', 'run')
return {'open', root, now, there[1] or '', there[2] or ''}
""")

# ARGV: holder. Gives 1 where it had been forgotten, and the run of the server.
BEAT = _with_times("""
local known = redis.call('ZADD', KEYS[1], micros, ARGV[1])
local run = server()
return {known, run}
""")

# What the holder has in flight counts as a dead one's from now on.
CLOSE = _with_times("""
local w, h, f, o, beats = unpack(KEYS)
local s, n = now_of(ARGV[1])
local rest = stamp(plus(s, n, span(ARGV[2])))
local flying = redis.call('HGETALL', f)
for j = 1, #flying, 2 do
  if flying[j + 1] == ARGV[3] then
    redis.call('HDEL', f, flying[j])
    redis.call('ZADD', h, 0, rest .. ':' .. flying[j])
  end
end
redis.call('HDEL', o, ARGV[3])
redis.call('HDEL', w, 'done ' .. ARGV[3])
return redis.call('ZREM', beats, ARGV[3])
""")

# Reads only. ARGV: T, key, profile, token, dead after (µs).
SEE = _with_times("""
local s, n = now_of('')
local now = stamp(s, n)
local late = stamp(plus(s, n, span(ARGV[1])))
local key = ARGV[2]
local function root_of(some) return redis.call('HGET', P .. 'w:' .. some, 'root') or some end
local function used(some)
  return redis.call('ZLEXCOUNT', P .. 'h:' .. some, '(' .. now .. ';', '+')
    + redis.call('HLEN', P .. 'f:' .. some)
end
local last = redis.call('HGET', P .. 'profiles', ARGV[3])
local root = root_of(key)
if last and used(root_of(last)) > 0 then root = root_of(last) end
local spenders = {}
local holders = redis.call('HGETALL', P .. 'o:' .. root)
for i = 1, #holders, 2 do
  local beat = redis.call('ZSCORE', P .. 'beats', holders[i])
  if beat and micros - tonumber(beat) < tonumber(ARGV[5]) then
    spenders[#spenders + 1] = holders[i]
    spenders[#spenders + 1] = tonumber(holders[i + 1])
  end
end
local next = redis.call('ZRANGEBYLEX', P .. 'h:' .. root, '(' .. now .. ';', '+', 'LIMIT', 0, 1)
return {now, redis.call('HGET', P .. 'w:' .. root, 'standing') or '', used(root),
  redis.call('ZLEXCOUNT', P .. 'h:' .. root, '(' .. late .. ';', '+'),
  redis.call('HLEN', P .. 'f:' .. root), next[1] or '',
  redis.call('GET', P .. 't:' .. ARGV[4]) or '', spenders}
""")
