-- What a run of wrk came to, as one line of JSON: microseconds, and how many requests failed in which way. Other scripts
-- end with dofile("benchmarks/done.lua").
function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '{"requests": %d, "duration": %d, "p50": %.0f, "p95": %.0f, "p99": %.0f, '
            .. '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(95), latency:percentile(99),
        errors.connect, errors.read, errors.write, errors.status, errors.timeout
    ))
end
