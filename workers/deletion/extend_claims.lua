#!lua flags=allow-oom
-- Extend claims on entries of the deletion schedule.
--
-- KEYS:   1 the schedule
-- ARGV:   1 for how many seconds, 2 and on: the members
-- ANSWER: 1

local t = redis.call('TIME')
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], 'XX', 'GT', t[1] + t[2] / 1000000 + ARGV[1], ARGV[i]) end
return 1
