-- Release the leases of jobs that have ended, when a worker stops.
--
-- USES:   release_jobs.lua
-- KEYS:   1 leases
-- ARGV:   1 the worker's id, 2 ended jobs as one MessagePack value

release_jobs(KEYS[1], ARGV[1], ARGV[2])
