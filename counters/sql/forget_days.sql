-- Delete what some counters have of the time before a UTC midnight, hit rows and days, and note what goes of the
-- counters and their hour buckets: all in one snapshot, as a reset does (reset_see.sql), without a lock on any counter.
-- A counter's hits of that time are those of its hours, as far back as they are kept, with the days before those, and
-- hits that came for such days and wait to be added to them.
WITH since AS MATERIALIZED (
    SELECT
        coalesce(max(since) FILTER (WHERE what = 'hits'), '-infinity') AS hits,
        coalesce(max(since) FILTER (WHERE what = 'hours'), '-infinity') AS hours
    FROM counters_retention
), selected AS MATERIALIZED (
    SELECT id, first_hit FROM counters_counter WHERE id = ANY(%(ids)s::uuid[]) AND first_hit < %(before)s::timestamptz
), removed AS (
    DELETE FROM counters_hit AS h USING selected AS s
    WHERE h.counter_id = s.id
        AND h.at >= (SELECT min(first_hit) FROM selected) AND h.at < %(before)s::timestamptz
), waiting AS (
    SELECT h.counter_id, sum(h.hits) AS hits
    FROM counters_hit AS h JOIN selected AS s ON s.id = h.counter_id
    WHERE h.at < (SELECT hours::timestamp AT TIME ZONE 'UTC' FROM since) AND h.at < %(before)s::timestamptz
    GROUP BY 1
), hours AS (
    SELECT h.counter_id, h.hour, h.hits
    FROM counters_hourlyhits AS h JOIN selected AS s ON s.id = h.counter_id
    WHERE h.hour < %(before)s::timestamptz
), hourly AS (
    SELECT counter_id, sum(h.hits) AS hits
    FROM hours AS h, since
    WHERE h.hour >= since.hours::timestamp AT TIME ZONE 'UTC'
    GROUP BY 1
), forgotten AS (
    DELETE FROM counters_dailyhits AS d USING selected AS s
    WHERE d.counter_id = s.id AND d.day < (%(before)s::timestamptz AT TIME ZONE 'UTC')::date
    RETURNING d.counter_id, d.day, d.hits
), daily AS (
    SELECT counter_id, sum(f.hits) AS hits FROM forgotten AS f, since WHERE f.day < since.hours GROUP BY 1
), told AS (
    UPDATE counters_rolledday AS r SET removed = r.removed + f.hits, rolled = now(), chained = false
    FROM (SELECT day, sum(hits) AS hits FROM forgotten GROUP BY day) AS f, since
    WHERE r.day = f.day AND r.day < since.hits
)
INSERT INTO reset_seen (counter_id, hour, hits)
SELECT s.id, NULL, coalesce(hourly.hits, 0) + coalesce(daily.hits, 0) + coalesce(waiting.hits, 0)
FROM selected AS s
LEFT JOIN hourly ON hourly.counter_id = s.id
LEFT JOIN daily ON daily.counter_id = s.id
LEFT JOIN waiting ON waiting.counter_id = s.id
UNION ALL
SELECT counter_id, hour, hits FROM hours
