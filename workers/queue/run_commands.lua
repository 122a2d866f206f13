#!lua flags=allow-oom
-- Run commands atomically, also while the server is full.
--
-- KEYS:   none
-- ARGV:   of each command the number of its words, then the words
-- ANSWER: the answer of each.

local answers, at = {}, 1
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  answers[#answers + 1] = redis.call(unpack(ARGV, at + 1, at + words))
  at = at + words + 1
end
return answers
