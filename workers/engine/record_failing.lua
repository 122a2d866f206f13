#!lua flags=allow-oom
-- Record what fails again and again for one failure class, for a limited time.
--
-- KEYS:   1 what fails for the class, by the time until which that counts, 2 the last error
-- ARGV:   1 the error, 2 for how many ms, 3 how many names to keep at most, 4 and on: the names
-- ANSWER: 1

local t = redis.call('TIME')
local now = tonumber(t[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
for i = 4, #ARGV do
  if redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[3]) or redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], now + ARGV[2] / 1000, ARGV[i])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
