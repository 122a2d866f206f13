#!lua flags=allow-oom
-- Remember a deletion by the time it happened, and forget those of long ago.
--
-- KEYS:   1 the sorted set of deletions
-- ARGV:   1 recording id, 2 folder, 3 for how many seconds to remember
-- ANSWER: 1

local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
redis.call('ZADD', KEYS[1], now, ARGV[1] .. ' ' .. ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3])
return 1
