-- Take what a reset has seen off the counters and their hour buckets; what was counted since then stays.
-- What stays is no earlier than its first bucket. The time of the reset would be too late a first hit, since a hit's
-- time is taken before its commit, and hits are looked for from the first one on.
WITH later AS (
    SELECT h.counter_id, min(h.hour) AS hour
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
)
UPDATE counters_counter AS c SET
    hits = c.hits - s.hits,
    first_hit = CASE WHEN c.hits > s.hits THEN greatest(c.first_hit, later.hour) END,
    last_hit = CASE WHEN c.hits > s.hits THEN c.last_hit END
FROM reset_seen AS s LEFT JOIN later ON later.counter_id = s.counter_id
WHERE c.id = s.counter_id AND s.hour IS NULL
RETURNING c.id, c.path, s.hits
