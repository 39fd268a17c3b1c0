-- Lists the tools.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
dofile(here .. "mcp.lua").script({ "tools_list" }, 1)
