-- Enqueue one job, unless a job with its id waits or runs.
--
-- KEYS:   1 the job's data, 2 its queue
-- ARGV:   1 the data, 2 its TTL in ms, 3 the delay in ms, 4 the job's id
-- ANSWER: 1 if it is new, else 0.

local t = redis.call('TIME')
local due = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[3])
if not redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX') then return 0 end
redis.call('ZADD', KEYS[2], due, ARGV[4])
return 1
