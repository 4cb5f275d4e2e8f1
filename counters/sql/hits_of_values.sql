-- Hits by the values of several dimensions at once, from hit rows, which are passed over once.
WITH combination AS MATERIALIZED (
    SELECT h.dimensions_id AS id, sum(h.hits)::bigint AS hits {hits} GROUP BY 1
), known AS (
    SELECT d.id, {columns} FROM counters_dimensionset AS d WHERE d.seen >= {since} AND {asked}
)
SELECT CASE {dimension} END AS dimension, coalesce({names}) AS value, sum(combination.hits)::bigint AS hits
FROM combination
JOIN known ON known.id = combination.id
GROUP BY GROUPING SETS ({sets})
