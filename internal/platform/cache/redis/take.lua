-- Units of a limit per minute. KEYS[1] the counter; ARGV limit, burst, need, want.
-- A leaky bucket in whole numbers: debt runs off by limit a microsecond, a unit is 60,000,000 of it.
local limit, burst, need, want = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local unit = 60000000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local have = redis.call('HMGET', KEYS[1], 'at', 'debt')
local at, debt = tonumber(have[1] or now), tonumber(have[2] or 0)
if now > at then
  debt = math.max(0, debt - (now - at) * limit)
  at = now
end
local room = burst * unit - debt
local n, wait = 0, 0
if room >= need * unit then
  n = math.min(want, math.floor(room / unit))
  debt = debt + n * unit
elseif need > burst and debt == 0 then
  n = need
  debt = need * unit
elseif need > burst then
  wait = math.ceil(debt / limit)
else
  wait = math.ceil((need * unit - room) / limit)
end
if n > 0 then
  redis.call('HSET', KEYS[1], 'at', string.format('%.0f', at), 'debt', string.format('%.0f', debt))
  redis.call('PEXPIRE', KEYS[1], math.ceil(debt / limit / 1000) + 1000)
end
return {n, wait, math.max(0, math.floor((burst * unit - debt) / unit))}
