-- Retry or discard a dead letter: enqueue its job if asked to, and remove exactly the letter that was read. A job that has
-- failed again since has a new letter, which stays.
--
-- CONSTANTS: QUEUES, the names of all queues.
-- USES:   merge_job.lua
-- KEYS:   1 dead letters, 2 the job's data, 3 its queue, 4 its in-progress key, 5 the data of an event that came meanwhile
-- ARGV:   1 the job's id, 2 the letter as it was read, 3 the data to enqueue or '' to discard, 4 its TTL in ms
-- ANSWER: 1, or 0 if the letter is another one by now.
--
-- If the job waits already, its data is merged with the letter's, or the letter's follows where they cannot be merged. If it
-- runs, that run may fail as before, so it runs once more.

if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end

local function run_now()
  local t = redis.call('TIME')
  redis.call('ZADD', KEYS[3], t[1] * 1000 + math.floor(t[2] / 1000), ARGV[1])
end

if ARGV[3] ~= '' then
  if redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4], 'NX') then
    run_now()
  elseif redis.call('EXISTS', KEYS[4]) == 1 then
    local next_data = redis.call('GET', KEYS[5]) or redis.call('GET', KEYS[2])
    redis.call('SET', KEYS[5], merged(ARGV[3], next_data) or ARGV[3], 'PX', ARGV[4])
  else
    local both = merged(ARGV[3], redis.call('GET', KEYS[2]))
    redis.call('SET', both and KEYS[2] or KEYS[5], both or ARGV[3], 'PX', ARGV[4])
    local is_queued = false
    for _, queue in ipairs(QUEUES) do is_queued = is_queued or redis.call('ZSCORE', queue, ARGV[1]) end
    if not is_queued then run_now() end
  end
end
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
