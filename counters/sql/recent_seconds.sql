-- The hits of each second of a span of time that has any, by how many seconds it comes after the beginning.
SELECT floor(extract(epoch FROM at - %(since)s))::integer, sum(hits)::bigint
FROM counters_hit
WHERE at >= %(since)s AND at < %(until)s
GROUP BY 1
