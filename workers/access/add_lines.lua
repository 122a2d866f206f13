-- Add lines to the access log, in order. A line that begins a play is added only if no line within the hour has begun it.
--
-- KEYS:   none
-- ARGV:   1 the id of the archive, '' if it is not known yet; 2 for how many seconds a play lasts;
--         then of each line: the name of its play or '', its id, the line
-- ANSWER: for each line the id of the line that stands for it, and for how many more milliseconds that one does.

local bound = redis.call('GET', ARCHIVE) or ARGV[1]
if ARGV[1] ~= '' and bound ~= ARGV[1] then return redis.error_reply('this Redis belongs to archive ' .. bound) end
local waiting, seconds = ACCESS_WAITING .. bound, ARGV[2]
local answers = {}
for at = 3, #ARGV, 3 do
  local play, id = ARGV[at], ARGV[at + 1]
  if play == '' or redis.call('SET', PLAYING .. play, id, 'NX', 'EX', seconds) then
    redis.call('RPUSH', waiting, ARGV[at + 2])
    answers[#answers + 1] = {id, seconds * 1000}
  else
    answers[#answers + 1] = {redis.call('GET', PLAYING .. play), redis.call('PTTL', PLAYING .. play)}
  end
end
return answers
