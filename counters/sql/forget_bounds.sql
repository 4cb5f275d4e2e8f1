-- Note which will be the first and the last hit of each counter when what was seen has gone, and how many it has now.
-- They lie in the first and the last hour that has hits left, or day where hours are not kept; hit rows tell the time,
-- as far back as they are kept, and before that the beginning and the end of that hour, or day.
WITH since AS MATERIALIZED (
    SELECT
        coalesce(max(since) FILTER (WHERE what = 'hits'), '-infinity')::timestamp AT TIME ZONE 'UTC' AS hits,
        coalesce(max(since) FILTER (WHERE what = 'hours'), '-infinity') AS hours
    FROM counters_retention
), hourly AS (
    SELECT h.counter_id, min(h.hour) AS first, max(h.hour) AS last
    FROM counters_hourlyhits AS h
    JOIN reset_seen AS s ON s.counter_id = h.counter_id AND s.hour IS NULL
    LEFT JOIN reset_seen AS b ON b.counter_id = h.counter_id AND b.hour = h.hour
    WHERE h.hits > coalesce(b.hits, 0)
    GROUP BY 1
), daily AS (
    SELECT
        d.counter_id,
        min(d.day)::timestamp AT TIME ZONE 'UTC' AS first, max(d.day)::timestamp AT TIME ZONE 'UTC' AS last
    FROM since, counters_dailyhits AS d
    JOIN reset_seen AS s ON s.counter_id = d.counter_id AND s.hour IS NULL
    WHERE d.day < since.hours
    GROUP BY 1
), ends AS MATERIALIZED (
    SELECT
        s.counter_id,
        least(h.first, d.first) AS first,
        CASE WHEN d.first <= h.first OR h.first IS NULL THEN d.first + interval '1 day'
            ELSE h.first + interval '1 hour' END AS first_end,
        CASE WHEN d.last + interval '1 day' > h.last OR h.last IS NULL THEN d.last ELSE h.last END AS last,
        greatest(h.last + interval '1 hour', d.last + interval '1 day') AS last_end
    FROM reset_seen AS s
    LEFT JOIN hourly AS h ON h.counter_id = s.counter_id
    LEFT JOIN daily AS d ON d.counter_id = s.counter_id
    WHERE s.hour IS NULL
), exact AS (
    SELECT
        e.counter_id,
        min(h.at) FILTER (WHERE h.at < e.first_end) AS first,
        max(h.at) FILTER (WHERE h.at >= e.last) AS last
    FROM ends AS e
    JOIN counters_hit AS h ON h.counter_id = e.counter_id
        AND ((h.at >= e.first AND h.at < e.first_end) OR (h.at >= e.last AND h.at < e.last_end))
    WHERE h.at >= (SELECT hits FROM since)
    GROUP BY 1
)
UPDATE reset_seen AS s SET
    total = c.hits,
    first_hit = coalesce(x.first, greatest(c.first_hit, e.first)),
    last_hit = coalesce(x.last, least(c.last_hit, e.last_end - interval '1 microsecond'))
FROM counters_counter AS c
JOIN ends AS e ON e.counter_id = c.id
LEFT JOIN exact AS x ON x.counter_id = c.id
WHERE s.hour IS NULL AND s.counter_id = c.id
