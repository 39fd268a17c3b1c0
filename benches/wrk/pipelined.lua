-- Calls the echo tool, 16 requests sent together on each connection.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
dofile(here .. "mcp.lua").script({ "tools_call" }, 16)
