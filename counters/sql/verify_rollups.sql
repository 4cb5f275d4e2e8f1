-- Compare what is rolled up of all paths, by every dimension, with the sum of the paths' days: of each day that is
-- complete, the figures that differ. Hits that were reset when their hit rows were gone are in the former alone.
WITH since AS (
    SELECT
        coalesce(max(since) FILTER (WHERE what = 'hits'), '-infinity') AS hits,
        coalesce(max(since) FILTER (WHERE what = 'hours'), '-infinity') AS hours
    FROM counters_retention
), complete AS (
    SELECT r.day, r.chained, r.day >= since.hours AS by_hour, r.removed + coalesce(sum(d.hits), 0) AS hits,
        count(DISTINCT d.counter_id) AS paths
    FROM since, counters_rolledday AS r
    LEFT JOIN counters_dailyhits AS d ON d.day = r.day
    WHERE r.day < since.hits OR r.day NOT IN (SELECT day FROM counters_lateday)
    GROUP BY r.day, r.chained, r.removed, since.hours
), figures AS (
    SELECT (start AT TIME ZONE 'UTC')::date AS day, grain, dimension, sum(hits) AS hits
    FROM counters_rollup
    GROUP BY 1, 2, 3
), expected AS (
    SELECT day, grain, dimension, hits
    FROM complete, unnest(ARRAY['day', 'hour']) AS grain, unnest(%(dimensions)s::text[]) AS dimension
    WHERE grain = 'day' OR by_hour
)
SELECT day, concat_ws(' by ', 'hits by the ' || grain, nullif(dimension, '')), coalesce(f.hits, 0)::bigint, e.hits::bigint
FROM expected AS e
LEFT JOIN figures AS f USING (day, grain, dimension)
WHERE coalesce(f.hits, 0) <> e.hits
UNION ALL
SELECT c.day, 'paths', coalesce(p.paths, 0)::bigint, c.paths
FROM complete AS c
LEFT JOIN (
    SELECT day, sum(paths) AS paths FROM counters_dailypaths WHERE audience = 'all' GROUP BY 1
) AS p ON p.day = c.day
WHERE c.chained AND coalesce(p.paths, 0) <> c.paths
ORDER BY 1, 2
