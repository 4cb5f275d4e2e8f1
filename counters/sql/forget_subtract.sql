-- Take what was seen off the counters and their hour buckets; what was counted since then stays. Where there is any, the
-- first and the last hit are not known to the moment: no more than an hour too early, or too late.
WITH later AS (
    SELECT h.counter_id, min(h.hour) AS first, max(h.hour) AS last
    FROM counters_hourlyhits AS h
    JOIN reset_seen AS s ON s.counter_id = h.counter_id AND s.hour IS NULL
    LEFT JOIN reset_seen AS b ON b.counter_id = h.counter_id AND b.hour = h.hour
    WHERE h.hits > coalesce(b.hits, 0)
    GROUP BY h.counter_id
), emptied AS (
    DELETE FROM counters_hourlyhits AS h USING reset_seen AS b
    WHERE h.counter_id = b.counter_id AND h.hour = b.hour AND h.hits <= b.hits
), lowered AS (
    UPDATE counters_hourlyhits AS h SET hits = h.hits - b.hits FROM reset_seen AS b
    WHERE h.counter_id = b.counter_id AND h.hour = b.hour AND h.hits > b.hits
), taken AS (
    UPDATE counters_counter AS c SET
        hits = c.hits - s.hits,
        first_hit = CASE
            WHEN c.hits = s.hits THEN NULL
            WHEN c.hits = s.total THEN s.first_hit
            ELSE greatest(c.first_hit, least(date_trunc('hour', s.first_hit, 'UTC'), later.first))
        END,
        last_hit = CASE
            WHEN c.hits = s.hits THEN NULL
            WHEN c.hits = s.total THEN s.last_hit
            ELSE least(c.last_hit, greatest(s.last_hit, later.last + interval '1 hour' - interval '1 microsecond'))
        END
    FROM reset_seen AS s LEFT JOIN later ON later.counter_id = s.counter_id
    WHERE c.id = s.counter_id AND s.hour IS NULL
    RETURNING s.hits
)
SELECT coalesce(sum(hits), 0)::bigint FROM taken
