-- Hits and visitors by the values of several dimensions at once, from hit rows, which are passed over once.
-- A visitor mostly has one value of a dimension: it is counted with the first of its combinations, without being told
-- apart from others. Only those that have another (later) are looked at again, for values that are not the first one's.
WITH pair AS MATERIALIZED (
    SELECT
        h.dimensions_id, h.visitor, sum(h.hits) AS hits,
        CASE WHEN h.visitor IS NOT NULL THEN
            nullif(first_value(h.dimensions_id) OVER (PARTITION BY h.visitor), h.dimensions_id)
        END AS first
    {hits}
    GROUP BY 1, 2
), known AS MATERIALIZED (
    SELECT d.id, {columns} FROM counters_dimensionset AS d
    WHERE d.seen >= {since} AND d.id IN (SELECT dimensions_id FROM pair)
), later AS MATERIALIZED (
    SELECT pair.visitor, {pairs_of_columns}
    FROM pair
    JOIN known ON known.id = pair.dimensions_id
    JOIN known AS first ON first.id = pair.first
    WHERE pair.first IS NOT NULL
)
SELECT dimension, value, sum(hits)::bigint AS hits, sum(visitors)::bigint AS visitors
FROM (
    SELECT CASE {dimension} END AS dimension, coalesce({names}) AS value, sum(hits) AS hits, sum(visitors) AS visitors
    FROM (
        SELECT dimensions_id, sum(hits)::bigint AS hits, count(visitor) FILTER (WHERE first IS NULL) AS visitors
        FROM pair
        GROUP BY 1
    ) AS combination
    JOIN known ON known.id = combination.dimensions_id
    GROUP BY GROUPING SETS ({sets})
    UNION ALL
    {others}
) AS valued
GROUP BY 1, 2
