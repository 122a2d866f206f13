#!lua flags=allow-oom
-- Replace a field of a hash, unless it has changed since it was read.
--
-- KEYS:   1 the hash
-- ARGV:   1 the field, 2 the value that was read or '' for none, 3 the new value or '' to delete the field
-- ANSWER: 1 if replaced, else 0.

if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return 1
