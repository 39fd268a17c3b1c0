-- Calls the echo tools of two servers behind one endpoint in turn, one request at a time on each connection.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
dofile(here .. "mcp.lua").script({ "chaos_one", "chaos_two" }, 1)
