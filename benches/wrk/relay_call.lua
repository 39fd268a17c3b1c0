-- Calls the echo tool, one request at a time on each connection, all of them in work with different ids.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
dofile(here .. "mcp.lua").script({ "tools_call" }, 1, 4096)
