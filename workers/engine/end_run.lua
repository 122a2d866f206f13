#!lua flags=allow-oom
-- End a run of a job: for good, or to run again.
--
-- USES:   merge_job.lua
-- KEYS:   1 the queue, 2 the job's data, 3 its in-progress key, 4 arq's count of tries, 5 data of an event that came meanwhile
-- ARGV:   1 the job's id, 2 TTL of its data in ms, 3 'ended', 'again' or 'unread', 4 the score to run again at or '',
--         5 the data that cannot be read or ''
-- ANSWER: 0
--
-- arq writes the score by ZINCRBY, which the client sends twice when an answer is lost, and drops a job whose data it did not
-- find even if the data has come since. Here data that has come since runs.
-- A job that runs again takes the data of an event that came meanwhile, and runs at once. Where the two differ in version, that
-- data follows later. A job's data must not expire, however often the job runs again.

if ARGV[3] == 'unread' and (redis.call('GET', KEYS[2]) or '') ~= ARGV[5] then
  redis.call('DEL', KEYS[3])
  return 0
end
redis.call('DEL', KEYS[3])
local newer = redis.call('GET', KEYS[5])
if newer and ARGV[3] == 'again' and not are_alike(job_of(redis.call('GET', KEYS[2])), job_of(newer)) then newer = nil end
if newer then
  local t = redis.call('TIME')
  redis.call('SET', KEYS[2], newer, 'PX', ARGV[2])
  redis.call('ZADD', KEYS[1], t[1] * 1000 + math.floor(t[2] / 1000), ARGV[1])
  redis.call('DEL', KEYS[5])
end
if ARGV[3] == 'again' then
  if ARGV[4] ~= '' and not newer then
    redis.call('ZADD', KEYS[1], 'XX', ARGV[4], ARGV[1])
    redis.call('PEXPIRE', KEYS[2], ARGV[2])
  end
  return 0
end
redis.call('DEL', KEYS[4])
if not newer then
  redis.call('DEL', KEYS[2])
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return 0
