-- Shared functions: merge the payload of a waiting job with the payload of a later event about the same work.
-- The first event of a recording may carry its place in custom storage, the second its start time; a reconcile has neither.
--
-- merged(earlier, later): the data of `later`, its payload completed by the fields that only `earlier` has. Answers nil when
-- the two differ in function or version, or one cannot be read. A webhook has no `found_by`; if either one is a webhook's,
-- the result has none.
--
-- The outer shape is written by hand (`t f a k et`, see jobs.py): the server's MessagePack writes an empty map as an empty list.

local function job_of(data)
  local is_read, job = pcall(cmsgpack.unpack, data or '')
  if is_read and type(job) == 'table' and type(job.a) == 'table' and type(job.a[1]) == 'table' then return job end
  return nil
end

local function are_alike(a, b) return a and b and a.f == b.f and (a.a[1].v or 1) == (b.a[1].v or 1) end

local function merged(earlier, later)
  local was, is = job_of(earlier), job_of(later)
  if not are_alike(was, is) or type(is.et) ~= 'number' then return nil end
  local payload, is_changed = is.a[1], false
  for name, value in pairs(was.a[1]) do
    if type(value) == 'table' and type(payload[name]) == 'table' then
      for field, one in pairs(value) do
        if payload[name][field] == nil then payload[name][field], is_changed = one, true end
      end
    elseif payload[name] == nil and name ~= 'found_by' and name ~= 'v' then
      payload[name], is_changed = value, true
    end
  end
  if was.a[1].found_by == nil and payload.found_by ~= nil then payload.found_by, is_changed = nil, true end
  if not is_changed then return later end
  for name, value in pairs(payload) do
    if type(value) == 'table' and next(value) == nil then payload[name] = nil end
  end
  local pack = cmsgpack.pack
  return '\133' .. pack('t') .. '\192' .. pack('f') .. pack(is.f) .. pack('a') .. '\145' .. pack(payload)
    .. pack('k') .. '\128' .. pack('et') .. pack(is.et)
end
