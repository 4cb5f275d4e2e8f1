-- The {top} values of each dimension that have most hits, ties by value, of relations that are to be added up.
SELECT dimension, value, hits
FROM (
    SELECT
        dimension, value, sum(hits)::bigint AS hits,
        row_number() OVER (PARTITION BY dimension ORDER BY sum(hits) DESC, value COLLATE "C") AS place
    FROM ({values}) AS part
    GROUP BY dimension, value
    HAVING sum(hits) > 0
) AS ranked
WHERE place <= {top}
ORDER BY dimension, place
