#!lua flags=allow-oom
-- Take or renew a lease. A lease that Redis has lost is taken again.
--
-- KEYS:   1 the lease
-- ARGV:   1 the holder's token, 2 for how many ms, 3 the longest that another's lease can last, in ms
-- ANSWER: 0 if the caller holds it now, else how many ms the other's lease lasts.
--
-- If the server's clock was set back, another's lease may last too long: it is shortened, and a holder that lives renews it.

local holder = redis.call('GET', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if holder and holder ~= ARGV[1] then
  if left > tonumber(ARGV[3]) then
    left = tonumber(ARGV[3])
    redis.call('PEXPIRE', KEYS[1], left)
  end
  return math.max(1, left)
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 0
