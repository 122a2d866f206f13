#!lua flags=allow-oom
-- Set when an entry of the deletion schedule is due, by the server's clock.
--
-- KEYS:   1 the schedule
-- ARGV:   1 the condition of ZADD: NX, LT or XX, 2 seconds from now, 3 the member
-- ANSWER: how many were added.

local t = redis.call('TIME')
return redis.call('ZADD', KEYS[1], ARGV[1], t[1] + t[2] / 1000000 + ARGV[2], ARGV[3])
