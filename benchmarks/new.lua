-- Paths of which each is asked for once. The argument names the run, so that no two runs share one.
local head, tail
local number = 0

function init(args)
    local whole = wrk.format("GET", "/api/new/" .. args[1] .. "/NUMBER/")
    head, tail = whole:match("^(.*)NUMBER(.*)$")
end

function request()
    number = number + 1
    return head .. number .. tail
end

dofile("benchmarks/done.lua")
