#!lua flags=allow-oom
-- Free the jobs that no living worker runs: the lease reaper.
--
-- CONSTANTS: ARQ_IN_PROGRESS, WORKER (see workers/keys.py), HEARTBEAT_MS: how long a heartbeat lasts.
-- KEYS:   1 leases (job id -> worker id), 2 jobs in progress without a lease (job id -> since when, in ms)
-- ARGV:   1 after how many ms a job without a lease is freed, 2 how many jobs of each queue to look at, 3 the caller's id,
--         4 the jobs that the caller runs, as one MessagePack value, 5 and on: the queues
-- ANSWER: the ids of the freed jobs.

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local freed = {}

local alive = {}
local function is_alive(worker)
  if alive[worker] == nil then
    local left = redis.call('PTTL', WORKER .. worker)
    -- Written while this server's clock was ahead: a living worker sends its next heartbeat before this ends.
    if left > HEARTBEAT_MS then redis.call('PEXPIRE', WORKER .. worker, HEARTBEAT_MS) end
    alive[worker] = left ~= -2
  end
  return alive[worker]
end

local here = {}
for _, id in ipairs(cmsgpack.unpack(ARGV[4])) do here[id] = true end
local function runs(id, worker)
  if worker == ARGV[3] then return here[id] end
  return is_alive(worker)
end

local leases = redis.call('HGETALL', KEYS[1])
for i = 1, #leases, 2 do
  if not runs(leases[i], leases[i + 1]) then
    if redis.call('DEL', ARQ_IN_PROGRESS .. leases[i]) == 1 then freed[#freed + 1] = leases[i] end
    redis.call('HDEL', KEYS[1], leases[i])
  end
end

local seen = {}
for q = 5, #ARGV do
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', ARGV[q], '-inf', now, 'LIMIT', 0, ARGV[2])) do
    if redis.call('EXISTS', ARQ_IN_PROGRESS .. id) == 1 and redis.call('HEXISTS', KEYS[1], id) == 0 then
      local since = redis.call('HGET', KEYS[2], id)
      if not since then
        since = now
        redis.call('HSET', KEYS[2], id, now)
      end
      if now - tonumber(since) > tonumber(ARGV[1]) then
        redis.call('DEL', ARQ_IN_PROGRESS .. id)
        freed[#freed + 1] = id
      else
        seen[id] = true
      end
    end
  end
end
for _, id in ipairs(redis.call('HKEYS', KEYS[2])) do
  if not seen[id] then redis.call('HDEL', KEYS[2], id) end
end
return freed
