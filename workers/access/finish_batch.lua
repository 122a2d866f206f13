#!lua flags=allow-oom
-- Drop a batch whose object is in the archive.
--
-- KEYS:   none
-- ARGV:   1 the id of the archive; 2 the key of the object
-- ANSWER: how many batches were dropped.

local batch = ACCESS_BATCH .. ARGV[1]
if redis.call('LRANGE', batch, 0, 0)[1] ~= ARGV[2] then return 0 end
return redis.call('DEL', batch)
