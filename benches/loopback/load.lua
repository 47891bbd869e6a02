-- Sends the calls of a file (`-- FILE`) over and over: header lines, an empty line, then one body a line.
-- Prints one line of JSON at the end.

local bodies, headers = {}, {}
local requests, turn = {}, 0

function init(args)
  local in_head = true
  for line in io.lines(args[1]) do
    if in_head and line == "" then
      in_head = false
    elseif in_head then
      local name, value = line:match("^([^:]+): (.*)$")
      headers[name] = value
    else
      bodies[#bodies + 1] = line
    end
  end
  for i, body in ipairs(bodies) do
    requests[i] = wrk.format("POST", nil, headers, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    '{"requests": %d, "seconds": %.6f, "failed": %d, "p50_us": %d, "p99_us": %d}',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
