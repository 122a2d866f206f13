-- Counts a request of a program within its span; the span begins with the first.
-- KEYS: the count. ARGV: the span in seconds.
-- Answers how many there were, and how many milliseconds the span still lasts.
local count, left = redis.call('INCR', KEYS[1]), redis.call('PTTL', KEYS[1])
if left < 0 then
  redis.call('EXPIRE', KEYS[1], ARGV[1])
  left = ARGV[1] * 1000
end
return {count, left}
