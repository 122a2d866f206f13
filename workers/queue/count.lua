-- Add what a process has counted to the counts of all processes of this Redis.
--
-- KEYS:   1 the counts of all, 2 the counts of this process that are in them
-- ARGV:   1 for how many seconds to keep the second key, then for each name: the name, the count that this process knows to be
--         written, the count now
-- ANSWER: 1
--
-- A process counts from zero and sends its whole count, so a command that the client sends twice adds nothing, and what a
-- failover lost is added again. If Redis lost both keys, only what is new is added: counting starts again at zero.

for i = 2, #ARGV, 3 do
  local written = redis.call('HGET', KEYS[2], ARGV[i]) or ARGV[i + 1]
  local grown = tonumber(ARGV[i + 2]) - tonumber(written)
  if grown > 0 then redis.call('HINCRBY', KEYS[1], ARGV[i], grown) end
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 2])
end
redis.call('EXPIRE', KEYS[2], ARGV[1])
return 1
