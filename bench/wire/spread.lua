-- Spreads wrk's requests over the routes and keys of a file with one "path<TAB>key"
-- per line; without a key the request has none. With "true" after the file's name each
-- request ends its connection. Every request is rendered before the clock starts, so a
-- request costs the generator one table read, whatever is being measured.

local rendered = {}
local at = 0
-- Coprime to any count that is not a multiple of it: the walk visits every line
-- before it repeats one, and neighbours in time are not neighbours in the file.
local stride = 7919

function init(args)
  local connection = args[2] == "true" and "close" or nil
  for line in io.lines(args[1]) do
    local path, key = line:match("^(%S+)\t(%S*)$")
    if not path then error("bad line in " .. args[1] .. ": " .. line) end
    rendered[#rendered + 1] = wrk.format("GET", path, { ["apikey"] = key ~= "" and key or nil, ["Connection"] = connection })
  end
  if #rendered % stride == 0 then error("the number of requests is a multiple of " .. stride) end
end

function request()
  at = (at + stride) % #rendered
  return rendered[at + 1]
end
