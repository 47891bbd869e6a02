-- Sends the requests of a file over and over and looks at the answers.
-- `-- FILE STATUS EVERY FRAGMENT`: every answer must have STATUS, and of every EVERY-th the body must hold FRAGMENT;
-- with EVERY 0 answers are only counted (wrk itself counts statuses above 399). Each request in the file is a line with
-- its length followed by its bytes. Prints one line of JSON at the end.

local threads = {}
local requests, turn = {}, 0

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  for length in file:lines() do
    requests[#requests + 1] = file:read(tonumber(length))
  end
  file:close()
  local status, every, fragment = tonumber(args[2]), tonumber(args[3]), args[4]
  answers, wrong = 0, 0
  if every > 0 then
    function response(code, headers, body)
      answers = answers + 1
      if code ~= status or (answers % every == 0 and not body:find(fragment, 1, true)) then
        wrong = wrong + 1
      end
    end
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  local answers, wrong = 0, 0
  for _, thread in ipairs(threads) do
    answers = answers + thread:get("answers")
    wrong = wrong + thread:get("wrong")
  end
  if answers == 0 then
    wrong = errors.status
  end
  print(string.format(
    '{"requests": %d, "seconds": %.6f, "failed": %d, "octets": %.0f, "p50_us": %d, "p99_us": %d, "p999_us": %d}',
    summary.requests, summary.duration / 1e6, errors.connect + errors.read + errors.write + errors.timeout + wrong,
    summary.bytes, latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
