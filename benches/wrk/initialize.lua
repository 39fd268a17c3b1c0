-- Opens a legacy session with every request, or in the modern era asks what the server is.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
dofile(here .. "mcp.lua").script({ "initialize" }, 1)
