-- The requests every script sends, the check of every reply, and the account at the end.
--
-- Arguments (after wrk's own `--`): era=legacy|modern, session=ID (legacy, when the
-- server gave one), check=all|none. With check=all each reply's status and body are
-- looked at, which costs the load generator more than all else it does; with
-- check=none wrk still counts statuses over 399, and the runner compares the bytes
-- per reply with those of a checked run.
--
-- requests/KIND.ERA holds one request: a line `expect FRAGMENT` (what a right reply
-- contains), header lines, an empty line, the body. All requests of a kind have the
-- same id, by which a reply is told from another kind's.

local mcp = {}
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"

local function options(args)
  local found = { era = "modern", check = "all" }
  for _, arg in ipairs(args) do
    local key, value = arg:match("^(%w+)=(.*)$")
    if not key then error("not an argument of the form key=value: " .. arg) end
    found[key] = value
  end
  return found
end

-- With an `id`, the request has that one and not the file's.
local function read_request(kind, opts, id)
  local file = assert(io.open(here .. "requests/" .. kind .. "." .. opts.era, "rb"))
  local text = file:read("*a")
  file:close()
  local expect, head, body = text:match("^expect ([^\n]+)\n(.-)\n\n([^\n]+)\n$")
  assert(body, "unreadable request file for " .. kind)
  if id then body = body:gsub('"id":%d+', '"id":' .. id, 1) end
  local lines = { "POST " .. wrk.path .. " HTTP/1.1", "Host: " .. wrk.headers["Host"], (head:gsub("\n", "\r\n")) }
  if kind ~= "initialize" and opts.session and opts.session ~= "" then
    table.insert(lines, "Mcp-Session-Id: " .. opts.session)
  end
  table.insert(lines, "Content-Length: " .. #body)
  return {
    id = assert(body:match('"id":(%d+)'), "no id in " .. kind),
    expect = expect,
    bytes = table.concat(lines, "\r\n") .. "\r\n\r\n" .. body,
  }
end

-- Globals, since done() can read no others from a thread.
checked, wrong, first_wrong = 0, 0, ""

-- The request a reply answers, told by its id.
local function answered(reply, requests)
  for _, request in pairs(requests) do
    if reply:find('"id":' .. request.id .. "%f[%D]") then return request end
  end
end

local function check_against(requests)
  return function(status, _, reply)
    checked = checked + 1
    local request = answered(reply, requests)
    if status == 200 and request and reply:find(request.expect, 1, true) then return end
    wrong = wrong + 1
    if first_wrong == "" then first_wrong = status .. " " .. reply:sub(1, 300) end
  end
end

-- Ids of a script whose requests have different ones: all of four digits, so that all of its requests are as long.
local FIRST_ID = 1000

-- As many requests of one kind that differ in their ids, and the one that every reply is checked against.
local function numbered(kind, opts, ids)
  local batches = {}
  for n = 1, ids do batches[n] = read_request(kind, opts, FIRST_ID + n - 1).bytes end
  local any = read_request(kind, opts)
  any.id = "[1-9]%d%d%d"
  return batches, { [kind] = any }
end

-- Declares a script that sends the requests of `cycle` (a list of kinds) in turn,
-- each `batch` times together. With `ids`, up to 9000, there is one kind, and that many requests of it with different ids take turns: a server
-- that holds a request in work may refuse another of the same id.
function mcp.script(cycle, batch, ids)
  local threads = {}

  function setup(thread) table.insert(threads, thread) end

  function init(args)
    local opts = options(args)
    local requests, batches = {}, {}
    if ids then
      batches, requests = numbered(cycle[1], opts, ids)
    else
      for i, kind in ipairs(cycle) do
        requests[kind] = requests[kind] or read_request(kind, opts)
        batches[i] = requests[kind].bytes:rep(batch)
      end
    end
    if opts.check == "all" then response = check_against(requests) end
    if #batches == 1 then
      -- One fixed request: wrk then sends it without asking the script each time.
      wrk.format = function() return batches[1] end
      return
    end
    local at = 0
    function request()
      at = at % #batches + 1
      return batches[at]
    end
  end

  function done(summary, latency)
    local total, bad, sample = 0, 0, ""
    for _, thread in ipairs(threads) do
      total = total + thread:get("checked")
      bad = bad + thread:get("wrong")
      if sample == "" then sample = thread:get("first_wrong") end
    end
    local e = summary.errors
    io.write(string.format(
      'account {"requests":%d,"duration_us":%d,"bytes":%d,"checked":%d,"wrong":%d,'
        .. '"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d},'
        .. '"latency_us":{"p50":%d,"p90":%d,"p99":%d,"max":%d}}\n',
      summary.requests, summary.duration, summary.bytes, total, bad,
      e.connect, e.read, e.write, e.status, e.timeout,
      latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
    if bad > 0 then io.write("first wrong reply: ", sample, "\n") end
  end
end

return mcp
