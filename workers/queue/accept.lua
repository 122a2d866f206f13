-- Accept a batch of events: deduplicate each, enqueue its jobs, then mark it as accepted.
--
-- CONSTANTS: EVENT, ARQ_JOB, ARQ_IN_PROGRESS, REPEATED, CONNECTION_STATE, INSPECTION, INSPECTION_NOTES, BULK_QUEUE (see
--            workers/keys.py).
-- USES:   merge_job.lua
-- KEYS:   none; they follow from the events.
-- ARGV:   1 the span of a set of marks, in ms
--         2 the TTL of a job's data, in ms
--         3 how many events the quarantine holds
--         4 all events, as one MessagePack value
--         5 the bytes that the events refer to, in their order (the server's MessagePack has no binary type)
--   event: bucket and member of its mark, length of the body to quarantine, jobs, the note on that body or ''
--   job:   queue, id, delay in ms, length of its data, the external connection that must be known or '', whether it merges
-- ANSWER: for each event 1 if it is new, else 0.
--
-- One MessagePack value, because writing hundreds of arguments costs a receiver more than everything else here.
-- The mark comes last: if the script fails half-way (out of memory), the receiver answers 503, Telnyx retries, and the retry
-- enqueues what is missing. A repeated event writes its mark again, so that a replica that confirms the write has the event.
-- Marks lie in many small sets of integers for half a day each, which the server packs into 8 bytes a mark. A set expires two
-- spans after its own.
-- A running job may have read Telnyx before this event happened: the new data is kept in REPEATED and runs next. A waiting job
-- that merges takes the data of both events, the newer where they differ, and runs now, in the queue of the event.
-- pcall: if the state of connections is corrupt, no connection counts as external.
-- Times are the server's, so that a receiver with a wrong clock delays nothing.

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local span = math.floor(now / ARGV[1])
local accepted = {}
local at = 1

local function take(length)
  at = at + length
  return string.sub(ARGV[5], at - length, at - 1)
end

local function enqueue(job, data)
  local queue, id, due, external, merges = job[1], job[2], now + job[3], job[5], job[6]
  if external ~= '' and redis.pcall('HEXISTS', CONNECTION_STATE, external) ~= 1 then return end
  local key, repeated = ARQ_JOB .. id, REPEATED .. id
  local ttl = tonumber(ARGV[2]) + due - now
  if redis.call('SET', key, data, 'PX', ttl, 'NX') then
    redis.call('ZADD', queue, due, id)
  elseif redis.call('EXISTS', ARQ_IN_PROGRESS .. id) == 1 then
    if merges then data = merged(redis.call('GET', repeated) or redis.call('GET', key), data) or data end
    redis.call('SET', repeated, data, 'PX', ttl)
  elseif merges then
    local both = merged(redis.call('GET', key), data)
    redis.call('SET', both and key or repeated, both or data, 'PX', ttl)
    if both then
      if queue ~= BULK_QUEUE then redis.call('ZREM', BULK_QUEUE, id) end
      local score = redis.call('ZSCORE', queue, id)
      if not score or tonumber(score) > due then redis.call('ZADD', queue, due, id) end
    end
  end
end

for n, event in ipairs(cmsgpack.unpack(ARGV[4])) do
  local bucket, member, body = ':' .. event[1], event[2], take(event[3])
  local is_new = true
  for past = span, span - 2, -1 do
    is_new = is_new and redis.call('SISMEMBER', EVENT .. past .. bucket, member) == 0
  end
  for _, job in ipairs(event[4]) do
    local data = take(job[4])
    if is_new then enqueue(job, data) end
  end
  if is_new and body ~= '' then
    redis.call('LPUSH', INSPECTION, body)
    redis.call('LTRIM', INSPECTION, 0, tonumber(ARGV[3]) - 1)
    redis.call('LPUSH', INSPECTION_NOTES, event[5])
    redis.call('LTRIM', INSPECTION_NOTES, 0, tonumber(ARGV[3]) - 1)
  end
  redis.call('SADD', EVENT .. span .. bucket, member)
  redis.call('PEXPIRE', EVENT .. span .. bucket, (span + 3) * ARGV[1] - now)
  accepted[n] = is_new and 1 or 0
end
return accepted
