#!lua flags=allow-oom
-- Take the batch of lines that is on its way into the archive, or begin one with the lines that wait.
--
-- A batch keeps its lines and the key of its object until `finish_batch.lua` drops it, so that a worker that takes over
-- writes the same object again.
--
-- KEYS:   none
-- ARGV:   1 the id of the archive; 2 the key of the object of a new batch; 3 the most lines of one;
--         4 optional: the key of a batch that no object has, which then gets the key in 2
-- ANSWER: the key of its object, then its lines; nothing if no line waits.

local batch, most = ACCESS_BATCH .. ARGV[1], tonumber(ARGV[3])
local found = redis.call('LRANGE', batch, 0, -1)
if #found > 0 then
  if found[1] ~= ARGV[4] then return found end
  redis.call('DEL', batch)
  found[1] = ARGV[2]
else
  for _, waiting in ipairs({ACCESS_WAITING .. ARGV[1], ACCESS_WAITING}) do
    local lines = redis.call('LRANGE', waiting, 0, most - 1)
    if #lines > 0 then
      redis.call('LTRIM', waiting, most, -1)
      found = {ARGV[2], unpack(lines)}
      break
    end
  end
end
if #found > 0 then redis.call('RPUSH', batch, unpack(found)) end
return found
