-- Counts a request of a program within its span; the span begins with the first.
-- KEYS: the count. ARGV: the span in seconds.
-- Answers how many there were, and how many milliseconds the span still lasts.
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return {count, redis.call('PTTL', KEYS[1])}
