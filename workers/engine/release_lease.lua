#!lua flags=allow-oom
-- Release a lease, and optionally keep everyone from taking it for a while.
--
-- KEYS:   1 the lease
-- ARGV:   1 the holder's token, 2 for how many ms nobody can take it, or 0
-- ANSWER: 1, or 0 if another holds it.

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return 1
