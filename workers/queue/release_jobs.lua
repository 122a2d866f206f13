-- Shared function: release the leases of jobs that have ended. A job that runs again may have another worker's lease by now.

local function release_jobs(leases, worker, ended)
  for _, id in ipairs(cmsgpack.unpack(ended)) do
    if redis.call('HGET', leases, id) == worker then redis.call('HDEL', leases, id) end
  end
end
