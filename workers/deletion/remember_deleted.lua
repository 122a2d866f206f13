#!lua flags=allow-oom
-- Remember a deletion by the time it happened, and forget those of long ago. Of a recording, nothing is under way any more.
--
-- KEYS:   1 the sorted set of deletions; of a recording also 2 that of deletions of transcriptions, 3 the hash of deletions under way
-- ARGV:   1 recording id, 2 folder, 3 for how many seconds to remember
-- ANSWER: 1

local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
redis.call('ZADD', KEYS[1], now, ARGV[1] .. ' ' .. ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3])
if KEYS[2] then
  redis.call('ZREM', KEYS[2], ARGV[1] .. ' ' .. ARGV[2])
  redis.call('HDEL', KEYS[3], ARGV[1])
end
return 1
