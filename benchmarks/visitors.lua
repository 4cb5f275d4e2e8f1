-- GET requests as they come from many visitors: the paths of mix.lua, with the headers of programs and browsers, 70% with
-- a consumer (of 50), 40% with a referrer (of 1,000 pages), each from an address of its own as a proxy tells it. 4,096 in
-- all, the same every time, made once so that wrk's own cost is small.
local words = { "alphawords", "betawords", "gammawords" }
local agents = {
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/604.1",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Safari/605.1.15",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "curl/8.5.0", "python-requests/2.32.3", "okhttp/4.12.0",
}
local requests = {}
local next_request = 0

local function headers()
    local chosen = {
        ["User-Agent"] = agents[math.random(#agents)] .. " build/" .. math.random(20),
        ["Accept"] = "text/html,application/xhtml+xml", ["Accept-Language"] = "en-GB,en;q=0.5",
        ["Accept-Encoding"] = "gzip, deflate, br", ["Sec-Fetch-Mode"] = "navigate",
        ["X-Forwarded-For"] = "203.0." .. math.random(0, 255) .. "." .. math.random(254),
    }
    if math.random() < 0.4 then
        chosen["Referer"] = "https://site" .. math.random(200) .. ".example/page/" .. math.random(5)
    end
    if math.random() < 0.7 then
        chosen["X-Consumer"] = "consumer-" .. math.random(50)
    end
    return chosen
end

function init(args)
    math.randomseed(7)
    for i = 1, 4096 do
        local path = "/api/"
        for _ = 1, math.random(1, 6) do
            path = path .. words[math.random(3)] .. "/"
        end
        requests[i] = wrk.format("GET", path, headers())
    end
end

function request()
    next_request = next_request % 4096 + 1
    return requests[next_request]
end

dofile("benchmarks/done.lua")
