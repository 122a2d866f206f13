#!lua flags=allow-oom
-- Record an alert: count it in its group, and keep it unless the group has had enough in this window. Allowed while Redis is
-- full, which is one of the things to report: otherwise each alert of a group would be delivered.
--
-- KEYS:   1 the mark of the group's window, 2 the counts, 3 the kept alerts
-- ARGV:   1 the group's field in the counts, 2 the window in seconds, 3 the instant, 4 the alert, 5 how many of a group to keep
--         in a window, 6 how many alerts to keep
-- ANSWER: whether it is the first of its window, whether it is kept, how many of the last window were not delivered, since when.

local undelivered, since, is_kept = '', '', 1
local is_first = redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[2]) and 1 or 0
if is_first == 0 then
  is_kept = redis.call('HINCRBY', KEYS[2], ARGV[1], 1) <= tonumber(ARGV[5]) and 1 or 0
  redis.call('HSETNX', KEYS[2], ARGV[1] .. ' first', ARGV[3])
else
  local before = redis.call('HMGET', KEYS[2], ARGV[1], ARGV[1] .. ' first')
  undelivered, since = before[1] or '', before[2] or ''
  redis.call('HDEL', KEYS[2], ARGV[1], ARGV[1] .. ' first')
end
if is_kept == 1 then
  redis.call('LPUSH', KEYS[3], ARGV[4])
  redis.call('LTRIM', KEYS[3], 0, tonumber(ARGV[6]) - 1)
end
return {is_first, is_kept, undelivered, since}
