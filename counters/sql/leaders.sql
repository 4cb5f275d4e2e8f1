-- The {limit} paths with most hits, by reading the first {depth} of each list in its order (docs/adr/0011-leaders.md).
-- A list is a rolled-up day and part, read along the index on its hits, or what other tables tell, {rest}.
-- The candidates' hits are exact; any other path has at most as many as the last that was read of each list, together.
WITH lists AS MATERIALIZED (
    SELECT asked.day, parts.part
    FROM unnest({days}::date[]) AS asked (day)
    CROSS JOIN LATERAL (SELECT part FROM counters_dailyhits WHERE day = asked.day ORDER BY part DESC LIMIT 1) AS last
    CROSS JOIN LATERAL generate_series(0, last.part) AS parts (part)
), heads AS MATERIALIZED (
    SELECT
        head.counter_id, head.hits,
        row_number() OVER (PARTITION BY lists.day, lists.part ORDER BY head.hits DESC) AS place
    FROM lists
    CROSS JOIN LATERAL (
        SELECT counter_id, hits FROM counters_dailyhits WHERE day = lists.day AND part = lists.part
        ORDER BY hits DESC LIMIT {depth}
    ) AS head
), rest AS MATERIALIZED (
    {rest}
), head_of_rest AS MATERIALIZED (
    SELECT counter_id, hits, row_number() OVER (ORDER BY hits DESC) AS place FROM rest ORDER BY hits DESC LIMIT {depth}
), candidates AS MATERIALIZED (
    SELECT counter_id FROM heads UNION SELECT counter_id FROM head_of_rest
), totals AS (
    SELECT
        candidates.counter_id,
        coalesce(rest.hits, 0) + coalesce((
            SELECT sum({hits}) FROM counters_dailyhits AS d WHERE d.counter_id = candidates.counter_id AND {on_days}
        ), 0)::bigint AS hits
    FROM candidates LEFT JOIN rest ON rest.counter_id = candidates.counter_id
), ranked AS (
    SELECT (SELECT path FROM counters_counter WHERE id = totals.counter_id) AS path, hits FROM totals WHERE hits > 0
    ORDER BY 2 DESC, 1 LIMIT {limit}
)
SELECT ranked.path, ranked.hits, unread.of_days, unread.of_rest
FROM (
    SELECT
        coalesce((SELECT sum(hits) FROM heads WHERE place = {depth}), 0)::bigint AS of_days,
        coalesce((SELECT hits FROM head_of_rest WHERE place = {depth}), 0) AS of_rest
) AS unread
LEFT JOIN ranked ON true
ORDER BY ranked.hits DESC, ranked.path
