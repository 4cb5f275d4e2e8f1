-- A million paths, whose popularity falls as 1 / rank: the n-th is drawn as often as log(1 + 1/n) / log(1,000,001) says.
-- Each request is drawn anew: a list made beforehand would have its rare paths come again and again.
local PATHS = 1000000
local head, tail
local random, floor = math.random, math.floor

function init(args)
    math.randomseed(tonumber(args[1], 16) % 2147483647)
    local whole = wrk.format("GET", "/api/item/RANK/")
    head, tail = whole:match("^(.*)RANK(.*)$")
end

function request()
    return head .. floor((PATHS + 1) ^ random()) .. tail
end

dofile("benchmarks/done.lua")
