-- Slots of a limit at a time. KEYS[1] the counter; ARGV limit, need, want, holder, ttl in ms. Field = holder, value = slots:until.
local limit, need, want, holder, ttl = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local others, mine = 0, 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local n, till = string.match(all[i + 1], '^(%d+):(%d+)$')
  if not n or tonumber(till) <= now then
    redis.call('HDEL', KEYS[1], all[i])
  elseif all[i] == holder then
    mine = tonumber(n)
  else
    others = others + tonumber(n)
  end
end
local free = limit - others
local n = mine
if free >= need then n = math.min(want, free) end
if n <= 0 then
  n = 0
  redis.call('HDEL', KEYS[1], holder)
else
  redis.call('HSET', KEYS[1], holder, string.format('%.0f:%.0f', n, now + ttl))
  redis.call('PEXPIRE', KEYS[1], ttl + 1000)
end
local wait = 0
if n < need then wait = 1000000 end
return {n, wait, math.max(0, free - n)}
