-- Enqueue a periodic job, unless its period still runs. The period begins together with the job.
--
-- KEYS:   1 the mark of the period, 2 the job's data, 3 its queue
-- ARGV:   1 the period in ms, 2 the data, 3 its TTL in ms, 4 the job's id
-- ANSWER: 1 if the period was over, else 0.

if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3], 'NX') then
  local t = redis.call('TIME')
  redis.call('ZADD', KEYS[3], t[1] * 1000 + math.floor(t[2] / 1000), ARGV[4])
end
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
return 1
