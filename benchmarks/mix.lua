-- The path mix of the load test: 3 words, 1 to 6 segments; the paths are made once, so that wrk's own cost is small.
local words = { "alphawords", "betawords", "gammawords" }
local requests = {}
local next_request = 0

function init(args)
    math.randomseed(os.time() + tonumber(tostring({}):sub(8), 16) % 100000)
    for i = 1, 4096 do
        local path = "/api/"
        for _ = 1, math.random(1, 6) do
            path = path .. words[math.random(1, 3)] .. "/"
        end
        requests[i] = wrk.format("GET", path)
    end
end

function request()
    next_request = next_request % 4096 + 1
    return requests[next_request]
end

dofile("benchmarks/done.lua")
