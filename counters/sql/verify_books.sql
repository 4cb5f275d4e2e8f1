-- Compare each path's counter with the sum of its hour buckets, of its hit rows and of its days rolled up, in one
-- snapshot: each as far back as it is kept, and the days before that. Days that are not rolled up, and hits that came for
-- days whose hit rows were gone, are in hit rows alone.
-- Every row says how many paths there are; if none differs, there is one row without an id.
WITH since AS MATERIALIZED (
    SELECT
        coalesce(max(since) FILTER (WHERE what = 'hits'), '-infinity') AS hits,
        coalesce(max(since) FILTER (WHERE what = 'hours'), '-infinity') AS hours
    FROM counters_retention
), complete AS MATERIALIZED (
    SELECT coalesce(array_agg(day), '{}') AS days
    FROM counters_rolledday, since
    WHERE day < since.hits OR day NOT IN (SELECT day FROM counters_lateday)
), daily AS (
    SELECT
        counter_id AS id,
        sum(d.hits) FILTER (WHERE day < since.hits) AS before_hits,
        sum(d.hits) FILTER (WHERE day < since.hours) AS before_hours,
        sum(d.hits) FILTER (WHERE day = ANY (complete.days)) AS all_days
    FROM counters_dailyhits AS d, since, complete
    GROUP BY 1
), hourly AS (
    SELECT counter_id AS id, sum(h.hits) AS hits
    FROM counters_hourlyhits AS h, since
    WHERE hour >= since.hours::timestamp AT TIME ZONE 'UTC'
    GROUP BY 1
), dated AS (
    SELECT counter_id AS id, (at AT TIME ZONE 'UTC')::date AS day, sum(hits) AS hits FROM counters_hit GROUP BY 1, 2
), kept AS (
    SELECT
        id,
        sum(d.hits) AS hits,
        sum(d.hits) FILTER (WHERE day < since.hours) AS before_hours,
        sum(d.hits) FILTER (WHERE day < since.hits OR day <> ALL (complete.days)) AS of_no_day
    FROM dated AS d, since, complete
    GROUP BY 1
), books AS MATERIALIZED (
    SELECT
        id,
        c.path,
        c.hits AS counter,
        (SELECT sum(n) FROM (VALUES (hourly.hits), (daily.before_hours), (kept.before_hours)) AS v (n))::bigint AS hourly,
        (SELECT sum(n) FROM (VALUES (kept.hits), (daily.before_hits)) AS v (n))::bigint AS kept,
        (SELECT sum(n) FROM (VALUES (daily.all_days), (kept.of_no_day)) AS v (n))::bigint AS daily
    FROM counters_counter AS c
    FULL JOIN hourly USING (id)
    FULL JOIN kept USING (id)
    FULL JOIN daily USING (id)
)
SELECT checked.paths, b.id, b.path, b.counter, b.hourly, b.kept, b.daily
FROM (SELECT count(*) AS paths FROM books) AS checked
LEFT JOIN books AS b
    ON coalesce(b.counter, 0) <> coalesce(b.hourly, 0)
    OR coalesce(b.counter, 0) <> coalesce(b.kept, 0)
    OR coalesce(b.counter, 0) <> coalesce(b.daily, 0)
ORDER BY b.path, b.id
