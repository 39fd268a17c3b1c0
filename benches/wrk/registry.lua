-- The registry over its control API, as the original was loaded: lookups of servers, routes
-- (an endpoint with what is bound to it), registrations, and bindings.
--
-- Arguments (after wrk's own `--`): work=lookups|mixed|register, token=TOKEN, and
-- servers=N, how many servers and endpoints were preloaded as server_1.. and
-- /mcp/transport_1... Lookups and routes draw from them uniformly. Each thread registers
-- and unregisters names of its own, a run of them at a time, and binds and unbinds a
-- server of its own at an endpoint of its own.
--
-- A reply is right when its status is one that its request may get; what is not right is
-- counted and the first one shown.

local OWN_NAMES = 1000
local started = 0
local threads = {}

function setup(thread)
  started = started + 1
  thread:set("number", started)
  table.insert(threads, thread)
end

-- Globals, since done() can read no others from a thread.
wrong, first_wrong = 0, ""

local function options(args)
  local found = { work = "lookups", servers = "10000", token = "" }
  for _, arg in ipairs(args) do
    local key, value = arg:match("^(%w+)=(.*)$")
    if not key then error("not an argument of the form key=value: " .. arg) end
    found[key] = value
  end
  return found
end

-- Per hundred operations: up to which number what is done.
local SHARES = {
  lookups = { { 100, "lookup" } },
  mixed = { { 40, "lookup" }, { 70, "route" }, { 90, "register" }, { 100, "bind" } },
  register = { { 50, "register" }, { 100, "lookup" } },
}

function init(args)
  local opts = options(args)
  local shares = assert(SHARES[opts.work], "no such work: " .. opts.work)
  local servers = tonumber(opts.servers)
  local write = { ["Authorization"] = "Bearer " .. opts.token, ["Content-Type"] = "application/json" }
  local registered, bound = 0, 0
  math.randomseed(number * 7919)

  local operations = {}
  function operations.lookup()
    return wrk.format("GET", "/v1/servers/server_" .. math.random(servers))
  end
  function operations.route()
    return wrk.format("GET", "/v1/endpoints/%2Fmcp%2Ftransport_" .. math.random(servers))
  end
  -- So many names, then the same ones away: what is under way at once never meets. A workload before this one may have left names of its own.
  function operations.register()
    local turn, place = math.floor(registered / OWN_NAMES) % 2, registered % OWN_NAMES
    registered = registered + 1
    local name = opts.work .. "_" .. number .. "_" .. place
    if turn == 0 then return wrk.format("POST", "/v1/servers", write, '{"name":"' .. name .. '","target":"http://x/"}') end
    return wrk.format("DELETE", "/v1/servers/" .. name, write)
  end
  function operations.bind()
    local turn, place = math.floor(bound / OWN_NAMES) % 2, bound % OWN_NAMES + 1
    bound = bound + 1
    local at = (number - 1) * OWN_NAMES + place
    if turn == 0 then
      local body = '{"endpoint":"/mcp/transport_' .. at .. '","server":"server_' .. at .. '"}'
      return wrk.format("POST", "/v1/bindings", write, body)
    end
    return wrk.format("DELETE", "/v1/bindings/%2Fmcp%2Ftransport_" .. at .. "/server_" .. at, write)
  end

  local is_asked = false
  function request()
    if not is_asked then
      -- wrk asks for one request before it begins, and never sends it: nothing may depend on that one.
      is_asked = true
      return operations.lookup()
    end
    local drawn = math.random(100)
    for _, share in ipairs(shares) do
      if drawn <= share[1] then return operations[share[2]]() end
    end
  end
end

function response(status, _, body)
  if status == 200 or status == 201 or status == 204 then return end
  wrong = wrong + 1
  if first_wrong == "" then first_wrong = status .. " " .. body:sub(1, 300) end
end

function done(summary, latency)
  local bad, sample = 0, ""
  for _, thread in ipairs(threads) do
    bad = bad + thread:get("wrong")
    if sample == "" then sample = thread:get("first_wrong") end
  end
  local e = summary.errors
  io.write(string.format(
    'account {"requests":%d,"duration_us":%d,"wrong":%d,"errors":{"connect":%d,"read":%d,"write":%d,"timeout":%d},'
      .. '"latency_us":{"p50":%d,"p99":%d,"max":%d}}\n',
    summary.requests, summary.duration, bad, e.connect, e.read, e.write, e.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
  if bad > 0 then io.write("first wrong reply: ", sample, "\n") end
end
