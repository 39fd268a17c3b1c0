-- Calls the echo tools of two servers behind one endpoint in turn, one request at a time on each connection.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
dofile(here .. "mcp.lua").script({ "chaos_one", "chaos_two" }, 1)

-- How long each connection waits between an answer and its next request, milliseconds.
local pause_ms = 0
local begin = init

function init(args)
  local rest = {}
  for _, arg in ipairs(args) do
    pause_ms = tonumber(arg:match("^pause_ms=(%d+)$")) or pause_ms
    if not arg:match("^pause_ms=") then table.insert(rest, arg) end
  end
  begin(rest)
end

function delay() return pause_ms end
