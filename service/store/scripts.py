"""The Redis scripts behind the mailbox. Each is one atomic step of a conversation's life.

A conversation is *idle* (no row anywhere), *due* (in its client's due set), *leased* (in the leases)
or *backing off* (due, with the `backoff` mark). Time is always Redis `TIME`. Key names are those of
`keys.py`; ids that only the script learns (a conversation, a client) make key names inside it.
"""

_PRELUDE = """
local P = 'hb:'
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function ms(number) return string.format('%.0f', number) end
-- The client's place among the clients is the time of its earliest conversation.
local function place(client)
  local first = redis.call('ZRANGE', P..'due:'..client, 0, 0, 'WITHSCORES')
  if first[2] then redis.call('ZADD', P..'clients', first[2], client)
  else redis.call('ZREM', P..'clients', client) end
end
local function make_due(client, conv, at)
  redis.call('ZADD', P..'due:'..client, ms(at), conv)
  place(client)
end
local function unlease(client, conv)
  redis.call('ZREM', P..'leases', conv)
  redis.call('SREM', P..'leases:'..client, conv)
  redis.call('HDEL', P..'c:'..conv, 'token')
end
"""

_APPEND = """
-- Put an event into a conversation's mailbox and make it due, unless it is leased or backs off.
local function append(conv, seen, client, bot, number, event, debounce, seen_ttl)
  redis.call('SET', seen, conv, 'EX', seen_ttl)
  redis.call('RPUSH', P..'mb:'..conv, event)
  local now = now_ms()
  local state = P..'c:'..conv
  debounce = tonumber(debounce)
  local held = redis.call('HMGET', state, 'client', 'first', 'backoff')
  if redis.call('ZSCORE', P..'leases', conv) then
    redis.call('HSETNX', state, 'first', ms(now))
    redis.call('HSET', state, 'last', ms(now))
    return {1, conv}
  end
  local due = held[1] and redis.call('ZSCORE', P..'due:'..held[1], conv)
  local first = due and tonumber(held[2]) or now
  if due then client = held[1] end
  redis.call('HSET', state, 'client', client, 'bot', bot, 'number', number,
    'first', ms(first), 'last', ms(now))
  if due and held[3] then return {1, conv} end
  make_due(client, conv, math.min(now + debounce, first + 5 * debounce))
  if not due then redis.call('PUBLISH', P..'wake', '1') end
  return {1, conv}
end
"""

# ARGV: bot, client, number, sid, from identity, external identity or '', conversation of from,
#       conversation of external or '', event, debounce ms, seen TTL s
# Returns {1 new | 0 duplicate, conversation}
ACCEPT = (
    _PRELUDE
    + _APPEND
    + """
local bot, client, number, sid, from, external = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local seen = P..'seen:'..bot..':'..sid
local earlier = redis.call('GET', seen)
if earlier then
  -- Written again: WAIT waits for a connection's own writes, and the first may be on no replica yet.
  redis.call('SET', seen, earlier, 'EX', ARGV[11])
  return {0, earlier}
end

local conv = ARGV[7]
local aliases = P..'alias:'..bot
if external ~= '' and external ~= from then
  local known = redis.call('HGET', aliases, 'i:'..external)
  if known then
    conv = known
  else
    local owner = redis.call('HGET', aliases, 'o:'..from)
    if owner and owner ~= external then conv = ARGV[8] end
    redis.call('HSET', aliases, 'i:'..external, conv)
  end
  redis.call('HSET', aliases, 'o:'..from, external)
else
  local owner = redis.call('HGET', aliases, 'o:'..from) or from
  conv = redis.call('HGET', aliases, 'i:'..owner) or conv
end

return append(conv, seen, client, bot, number, ARGV[9], ARGV[10], ARGV[11])
"""
)

# ARGV: conversation, client, bot, number, command's id, event, debounce ms, seen TTL s
# Returns {1 new | 0 duplicate, conversation}
COMMAND = (
    _PRELUDE
    + _APPEND
    + """
local conv, client, bot, number = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local seen = P..'seen:'..bot..':'..ARGV[5]
if redis.call('EXISTS', seen) == 1 then return {0, conv} end
return append(conv, seen, client, bot, number, ARGV[6], ARGV[7], ARGV[8])
"""
)

# ARGV: how many, token prefix, lease ms, newcomers only ('1'), events at most
# Returns {claims, ms until something is due or -1}
# a claim: {conversation, token, client, bot, number, excused, events}
CLAIM = (
    _PRELUDE
    + """
if redis.call('EXISTS', P..'held') == 1 then return {{}, -1} end
local wanted, prefix, lease_ms = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local newcomers, most = ARGV[4] == '1', tonumber(ARGV[5])
local now = now_ms()
for _, conv in ipairs(redis.call('ZRANGE', P..'leases', '-inf', ms(now), 'BYSCORE', 'LIMIT', 0, 200)) do
  local client = redis.call('HGET', P..'c:'..conv, 'client')
  if client then
    unlease(client, conv)
    make_due(client, conv, now)
  else
    redis.call('ZREM', P..'leases', conv)
  end
end

local waiting = {}
for _, client in ipairs(redis.call('ZRANGE', P..'clients', '-inf', ms(now), 'BYSCORE', 'LIMIT', 0, 256)) do
  waiting[#waiting + 1] = {client, redis.call('SCARD', P..'leases:'..client)}
end
local claims = {}
while #claims < wanted and #waiting > 0 do
  local best = 1
  for i = 2, #waiting do
    if waiting[i][2] < waiting[best][2] then best = i end
  end
  local client, running = waiting[best][1], waiting[best][2]
  if newcomers and running > 0 then break end
  local conv = redis.call('ZRANGE', P..'due:'..client, '-inf', ms(now), 'BYSCORE', 'LIMIT', 0, 1)[1]
  if conv then
    local token = prefix..':'..#claims
    local state = P..'c:'..conv
    local held = redis.call('HMGET', state, 'bot', 'number', 'excused')
    redis.call('ZREM', P..'due:'..client, conv)
    redis.call('ZADD', P..'leases', ms(now + lease_ms), conv)
    redis.call('SADD', P..'leases:'..client, conv)
    redis.call('HDEL', state, 'first', 'backoff', 'excused')
    redis.call('HSET', state, 'token', token)
    claims[#claims + 1] = {conv, token, client, held[1] or '', held[2] or '', held[3] or '',
      redis.call('LRANGE', P..'mb:'..conv, 0, most - 1)}
    waiting[best][2] = running + 1
  end
  place(client)
  local nearest = redis.call('ZSCORE', P..'clients', client)
  if not nearest or tonumber(nearest) > now then table.remove(waiting, best) end
end

local next_at
local due = redis.call('ZRANGE', P..'clients', 0, 0, 'WITHSCORES')
if due[2] then next_at = tonumber(due[2]) end
local lease = redis.call('ZRANGE', P..'leases', 0, 0, 'WITHSCORES')
if lease[2] and (not next_at or tonumber(lease[2]) < next_at) then next_at = tonumber(lease[2]) end
return {claims, next_at and math.max(0, next_at - now) or -1}
"""
)

# ARGV: conversation, token, lease ms. Leases this very conversation, due or leased, held or not: whoever
# had it is fenced off. Returns {} when it is idle, else {client, bot, number, events}
TAKE = (
    _PRELUDE
    + """
local conv, state = ARGV[1], P..'c:'..ARGV[1]
local held = redis.call('HMGET', state, 'client', 'bot', 'number')
if not held[1] then return {} end
redis.call('ZREM', P..'due:'..held[1], conv)
place(held[1])
redis.call('ZADD', P..'leases', ms(now_ms() + tonumber(ARGV[3])), conv)
redis.call('SADD', P..'leases:'..held[1], conv)
redis.call('HDEL', state, 'first', 'backoff', 'excused')
redis.call('HSET', state, 'token', ARGV[2])
return {held[1], held[2] or '', held[3] or '', redis.call('LRANGE', P..'mb:'..conv, 0, -1)}
"""
)

# ARGV: lease ms, then conversation and token in turn. Returns the conversations that were lost.
RENEW = (
    _PRELUDE
    + """
local now, lost = now_ms(), {}
for i = 2, #ARGV, 2 do
  local conv = ARGV[i]
  if redis.call('HGET', P..'c:'..conv, 'token') == ARGV[i + 1] then
    redis.call('ZADD', P..'leases', 'XX', ms(now + tonumber(ARGV[1])), conv)
  else
    lost[#lost + 1] = conv
  end
end
return lost
"""
)

# ARGV: conversation, token, debounce ms, session or '', session TTL s, then the handled events
# Returns 1, or 0 when the token is stale and nothing was changed.
ACKNOWLEDGE = (
    _PRELUDE
    + """
local conv, state = ARGV[1], P..'c:'..ARGV[1]
if redis.call('HGET', state, 'token') ~= ARGV[2] then return 0 end
local held = redis.call('HMGET', state, 'client', 'first', 'last')
for i = 6, #ARGV do redis.call('LREM', P..'mb:'..conv, 1, ARGV[i]) end
unlease(held[1], conv)
if ARGV[4] ~= '' then redis.call('SET', P..'session:'..conv, ARGV[4], 'EX', ARGV[5]) end
if redis.call('EXISTS', P..'mb:'..conv) == 0 then
  redis.call('DEL', state)
  return 1
end
local now, debounce = now_ms(), tonumber(ARGV[3])
local first, last = tonumber(held[2]) or now, tonumber(held[3]) or now
make_due(held[1], conv, math.max(now, math.min(last + debounce, first + 5 * debounce)))
redis.call('PUBLISH', P..'wake', '1')
return 1
"""
)

# ARGV: conversation, token, delay ms. Returns 1, or 0 when the token is stale.
RELEASE = (
    _PRELUDE
    + """
local conv, state = ARGV[1], P..'c:'..ARGV[1]
if redis.call('HGET', state, 'token') ~= ARGV[2] then return 0 end
local client, delay = redis.call('HGET', state, 'client'), tonumber(ARGV[3])
unlease(client, conv)
redis.call('HSET', state, 'excused', '1')
if delay > 0 then redis.call('HSET', state, 'backoff', '1') end
make_due(client, conv, now_ms() + delay)
redis.call('PUBLISH', P..'wake', '1')
return 1
"""
)

# ARGV: conversation, client, bot, number. Makes an idle conversation due (a turn was left open).
# Returns 1 when it was idle.
REVIVE = (
    _PRELUDE
    + """
local conv, client, state = ARGV[1], ARGV[2], P..'c:'..ARGV[1]
if redis.call('EXISTS', state) == 1 then return 0 end
redis.call('HSET', state, 'client', client, 'bot', ARGV[3], 'number', ARGV[4], 'excused', '1')
make_due(client, conv, now_ms())
redis.call('PUBLISH', P..'wake', '1')
return 1
"""
)

# Returns {due, leased, ms that the oldest is overdue, whether workers are held}
DEPTH = (
    _PRELUDE
    + """
local now, due, oldest = now_ms(), 0, 0
local clients = redis.call('ZRANGE', P..'clients', 0, -1, 'WITHSCORES')
for i = 1, #clients, 2 do
  due = due + redis.call('ZCARD', P..'due:'..clients[i])
  oldest = math.max(oldest, now - tonumber(clients[i + 1]))
end
return {due, redis.call('ZCARD', P..'leases'), oldest, redis.call('EXISTS', P..'held')}
"""
)
