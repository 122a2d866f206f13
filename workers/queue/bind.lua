#!lua flags=allow-oom
-- Read which archive this Redis belongs to, and bind it to one if it is bound to none. A value that is no id counts as none.
--
-- KEYS:   1 the binding
-- ARGV:   1 optional: the id to bind it to
-- ANSWER: the id of the archive, or false.

local found = redis.pcall('GET', KEYS[1])
if type(found) == 'string' and string.match(found, '^' .. string.rep('%x', 32) .. '$') then return found end
if not ARGV[1] then return false end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
