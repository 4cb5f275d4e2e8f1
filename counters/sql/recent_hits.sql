-- The paths that were requested most in a span of time, and the hits of all paths in it. Counters are looked up last, so
-- that of two paths with as many hits, chance decides which is among the last.
SELECT c.path, h.hits, h.total
FROM (
    SELECT counter_id, sum(hits)::bigint AS hits, sum(sum(hits)) OVER ()::bigint AS total
    FROM counters_hit
    WHERE at >= %(since)s AND at < %(until)s
    GROUP BY counter_id
    ORDER BY 2 DESC, counter_id
    LIMIT %(top)s
) AS h
JOIN counters_counter AS c ON c.id = h.counter_id
ORDER BY h.hits DESC, c.path
