-- Roll up one UTC day, path by path, of the paths with {asked}, so that what is summed up at once fits in memory.
-- {start} and {end} bound the {day}; {part} is 0, or one more for late hits.
WITH seen AS MATERIALIZED (
    SELECT h.counter_id, d.bot, h.visitor, h.hits, {columns}
    FROM counters_hit AS h
    JOIN rolled_sets AS d ON d.id = h.dimensions_id
    WHERE h.at >= {start} AND h.at < {end} AND {asked}
), valued AS (
    SELECT counter_id, {dimension} AS dimension, coalesce({columns}, '') AS value, bot, visitor, sum(hits) AS hits
    FROM seen
    GROUP BY counter_id, bot, visitor, GROUPING SETS ((), {columns})
), figures AS (
    SELECT
        counter_id, dimension, value, sum(hits) AS hits, count(visitor) AS visitors,
        coalesce(sum(hits) FILTER (WHERE bot), 0) AS bot_hits, count(visitor) FILTER (WHERE bot) AS bot_visitors
    FROM valued
    GROUP BY 1, 2, 3
), written AS (
    SELECT
        counter_id, dimension, max(hits) AS hits, max(visitors) AS visitors,
        max(bot_hits) AS bot_hits, max(bot_visitors) AS bot_visitors,
        to_json(dimension) || ':{{' || string_agg(
            to_json(value) || ':[' || hits || ',' || visitors
            || CASE WHEN bot_hits = 0 THEN '' ELSE ',' || bot_hits || ',' || bot_visitors END || ']',
            ','
        ) || '}}' AS json
    FROM figures
    GROUP BY counter_id, dimension
    HAVING dimension = '' OR max(value) <> ''
)
INSERT INTO counters_dailyhits (counter_id, day, part, hits, visitors, bot_hits, bot_visitors, dimensions)
SELECT
    counter_id, {day}, {part},
    max(hits) FILTER (WHERE dimension = ''), max(visitors) FILTER (WHERE dimension = ''),
    max(bot_hits) FILTER (WHERE dimension = ''), max(bot_visitors) FILTER (WHERE dimension = ''),
    '{{' || coalesce(string_agg(json, ',') FILTER (WHERE dimension <> ''), '') || '}}'
FROM written
GROUP BY counter_id
