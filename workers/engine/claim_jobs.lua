#!lua flags=allow-oom
-- Claim jobs that are due and that nobody runs, each with its lease; release the leases of those that have ended.
--
-- CONSTANTS: ARQ_IN_PROGRESS (see workers/keys.py).
-- USES:   release_jobs.lua
-- KEYS:   1 leases, 2 the queue, 3 the number and answer of this worker's last claim
-- ARGV:   1 the worker's id, 2 ended jobs as one MessagePack value, 3 TTL of the in-progress key in ms, 4 how many at most,
--         5 jobs a page, 6 pages at most, 7 number of this claim, 8 for how many seconds to keep its answer
-- ANSWER: id, score, id, score, ...
--
-- Running jobs stay in arq's queue, so a claim pages past those of all other workers.
-- The client sends a claim again when its answer is lost (a broken connection, a failover). A second claim would leave the
-- first one's jobs to a worker that lives and knows nothing of them: so the same number gets the same answer.

local kept = redis.call('GET', KEYS[3])
if kept then
  local number, answer = cmsgpack.unpack(kept)
  if number == ARGV[7] then return answer end
end
release_jobs(KEYS[1], ARGV[1], ARGV[2])

local claimed = {}
local function answer_and_keep()
  if #claimed > 0 then redis.call('SET', KEYS[3], cmsgpack.pack(ARGV[7], claimed), 'EX', ARGV[8]) end
  return claimed
end

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local page = tonumber(ARGV[5])
for n = 0, tonumber(ARGV[6]) - 1 do
  local found = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'WITHSCORES', 'LIMIT', n * page, page)
  for i = 1, #found, 2 do
    if redis.call('SET', ARQ_IN_PROGRESS .. found[i], '1', 'PX', ARGV[3], 'NX') then
      redis.call('HSET', KEYS[1], found[i], ARGV[1])
      claimed[#claimed + 1] = found[i]
      claimed[#claimed + 1] = found[i + 1]
      if #claimed >= 2 * tonumber(ARGV[4]) then return answer_and_keep() end
    end
  end
  if #found < 2 * page then break end
end
return answer_and_keep()
