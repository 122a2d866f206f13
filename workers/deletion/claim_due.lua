#!lua flags=allow-oom
-- Claim entries of the deletion schedule that are due: each gets a later time, so a worker that dies loses none.
--
-- KEYS:   1 the schedule
-- ARGV:   1 how many, 2 for how many seconds
-- ANSWER: the claimed members.

local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, member in ipairs(due) do redis.call('ZADD', KEYS[1], now + ARGV[2], member) end
return due
