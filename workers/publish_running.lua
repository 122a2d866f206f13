#!lua flags=allow-oom
-- Publish what a process runs with, note that it lives, and remove the processes that have not done so for long.
--
-- KEYS:   1 what each process runs with, by its id, 2 the ids by when each published last (seconds)
-- ARGV:   1 the id, 2 what it runs with, 3 after how many seconds a process is removed
-- ANSWER: 1

local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[2], now, ARGV[1])
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
local function remove(from, to)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], from, to)) do
    redis.call('HDEL', KEYS[1], id)
    redis.call('ZREM', KEYS[2], id)
  end
end
remove('-inf', now - ARGV[3])
remove(now + ARGV[3], '+inf') -- written while the clock of this server was ahead
return 1
