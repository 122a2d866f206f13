#!lua flags=allow-oom
-- Drop a batch whose object is in the archive, and note its key, so that readers know that there is more to read.
--
-- KEYS:   none
-- ARGV:   1 the id of the archive; 2 the key of the object
-- ANSWER: how many batches were dropped.

local batch = ACCESS_BATCH .. ARGV[1]
if redis.call('LRANGE', batch, 0, 0)[1] ~= ARGV[2] then return 0 end
redis.call('SET', ACCESS_MOVED .. ARGV[1], ARGV[2])
return redis.call('DEL', batch)
