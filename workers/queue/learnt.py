"""What a job that waits learns from another telling of the same work: Lua, for the scripts in which both meet.

The first event of a recording may say where custom storage has put it, the second when it began; a sweep knows neither.
"""

from __future__ import annotations

# `learnt(known, told)`: the job of `told`, its payload filled up with what only `known` says; nil if they are not of one function
# and version, or one cannot be read. `found_by` is left out for a webhook: where one of the two is a webhook's, so is the result.
# The outer shape is written by hand (`t f a k et`, see jobs.py): the server's MessagePack writes an empty map as an empty list.
LEARNT = r"""
local function job_of(data)
  local is_read, job = pcall(cmsgpack.unpack, data or '')
  if is_read and type(job) == 'table' and type(job.a) == 'table' and type(job.a[1]) == 'table' then return job end
  return nil
end
local function are_alike(a, b) return a and b and a.f == b.f and (a.a[1].v or 1) == (b.a[1].v or 1) end
local function learnt(known, told)
  local was, is = job_of(known), job_of(told)
  if not are_alike(was, is) or type(is.et) ~= 'number' then return nil end
  local payload, is_more = is.a[1], false
  for name, value in pairs(was.a[1]) do
    if type(value) == 'table' and type(payload[name]) == 'table' then
      for field, one in pairs(value) do
        if payload[name][field] == nil then payload[name][field], is_more = one, true end
      end
    elseif payload[name] == nil and name ~= 'found_by' and name ~= 'v' then
      payload[name], is_more = value, true
    end
  end
  if was.a[1].found_by == nil and payload.found_by ~= nil then payload.found_by, is_more = nil, true end
  if not is_more then return told end
  for name, value in pairs(payload) do
    if type(value) == 'table' and next(value) == nil then payload[name] = nil end
  end
  local pack = cmsgpack.pack
  return '\133' .. pack('t') .. '\192' .. pack('f') .. pack(is.f) .. pack('a') .. '\145' .. pack(payload)
    .. pack('k') .. '\128' .. pack('et') .. pack(is.et)
end
"""
