-- Calls the echo tool, one request at a time on each connection.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
dofile(here .. "mcp.lua").script({ "tools_call" }, 1)
