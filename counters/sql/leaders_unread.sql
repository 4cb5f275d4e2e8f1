-- How many hits a path can have that is not among the first {depth} of any rolled-up day, as the index on hits tells.
SELECT coalesce(sum(last_read.hits), 0)::bigint
FROM unnest({days}::date[]) AS asked (day)
CROSS JOIN LATERAL (SELECT part FROM counters_dailyhits WHERE day = asked.day ORDER BY part DESC LIMIT 1) AS last
CROSS JOIN LATERAL generate_series(0, last.part) AS parts (part)
CROSS JOIN LATERAL (
    SELECT hits FROM counters_dailyhits WHERE day = asked.day AND part = parts.part
    ORDER BY hits DESC OFFSET {depth} - 1 LIMIT 1
) AS last_read
