-- Roll up one UTC day, site-wide: by dimension, value and hour, and by day. {start} and {end} bound the {day}.
-- An hour's visitors are kept apart by how long ago on that day they were seen with the same value (see models.Rollup).
-- Figures of late hits, whose earlier ones are no longer there to be counted anew, are added.
-- Every dimension is grouped by at once (GROUPING SETS): ten times as quick as a row for each hit and dimension.
WITH seen AS MATERIALIZED (
    SELECT date_trunc('hour', h.at, 'UTC') AS hour, d.bot, h.visitor, h.hits, {columns}
    FROM counters_hit AS h
    JOIN rolled_sets AS d ON d.id = h.dimensions_id
    WHERE h.at >= {start} AND h.at < {end}
), valued AS (
    SELECT {dimension} AS dimension, coalesce({columns}, '') AS value, bot, visitor, hour, sum(hits) AS hits
    FROM seen
    GROUP BY bot, visitor, hour, GROUPING SETS ((), {columns})
), chained AS (
    SELECT
        *, lag(hour) OVER (PARTITION BY dimension, value COLLATE "C", bot, visitor ORDER BY hour) AS earlier
    FROM valued
), hourly AS MATERIALIZED (
    SELECT
        dimension, hour, value, bot,
        CASE WHEN visitor IS NULL OR earlier IS NULL THEN 0
            ELSE extract(hour FROM hour AT TIME ZONE 'UTC') - extract(hour FROM earlier AT TIME ZONE 'UTC')
        END AS gap,
        sum(hits) AS hits, count(visitor) AS visitors
    FROM chained
    GROUP BY 1, 2, 3, 4, 5
)
INSERT INTO counters_rollup AS r (dimension, grain, start, value, bot, gap, hits, visitors)
SELECT dimension, 'day', {start}, value, bot, 0, sum(hits), coalesce(sum(visitors) FILTER (WHERE gap = 0), 0)
FROM hourly
GROUP BY dimension, value, bot
UNION ALL
SELECT dimension, 'hour', hour, value, bot, gap, hits, visitors FROM hourly
ON CONFLICT (dimension, grain, start, value, bot, gap) DO UPDATE SET
    hits = r.hits + excluded.hits, visitors = r.visitors + excluded.visitors
