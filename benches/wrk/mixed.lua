-- Of ten requests eight call the tool, one lists the tools and one is a client's first.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
local cycle = {
  "tools_call", "tools_call", "tools_list", "tools_call", "tools_call",
  "tools_call", "tools_call", "initialize", "tools_call", "tools_call",
}
dofile(here .. "mcp.lua").script(cycle, 1)
