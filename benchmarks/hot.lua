-- One path, over and over.
local hot

function init(args)
    hot = wrk.format("GET", "/api/hot/")
end

function request()
    return hot
end

dofile("benchmarks/done.lua")
