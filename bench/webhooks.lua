-- wrk: each request another signed event, from the file that BODIES names: timestamp, signature and body a line, by tabs.
local requests, next_one = {}, 0
function init()
  for line in io.lines(os.getenv("BODIES")) do
    local timestamp, signature, body = line:match("^(.-)\t(.-)\t(.*)$")
    local headers = { ["content-type"] = "application/json", ["telnyx-timestamp"] = timestamp, ["telnyx-signature-ed25519"] = signature }
    requests[#requests + 1] = wrk.format("POST", "/webhooks/telnyx", headers, body)
  end
end
-- Milliseconds between an answer and the next event of its connection.
if tonumber(os.getenv("DELAY_MS") or "0") > 0 then
  function delay() return tonumber(os.getenv("DELAY_MS")) end
end
function request()
  next_one = next_one + 1
  if next_one > #requests then error("the events are used up: make more") end
  return requests[next_one]
end
function done(summary, latency)
  local errors = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format('RESULT {"rate": %f, "p99": %f, "p50": %f, "errors": %d}\n', summary.requests / summary.duration * 1e6,
    latency:percentile(99) / 1000, latency:percentile(50) / 1000, errors))
end
