-- Hits and visitors by the values of several dimensions at once, from hit rows, which are passed over once.
-- A visitor mostly has one value of a dimension: with the first of its combinations it is counted, without being told
-- apart from others. With any other combination it is told apart (…_again), and where the value is another, counted too.
SELECT dimension, value, sum(hits)::bigint AS hits, (sum(visitors) + count(again))::bigint AS visitors
FROM (
    SELECT
        CASE {dimension} END AS dimension, coalesce({values}) AS value, coalesce({agains}) AS again,
        sum(hits) AS hits, count(visitor) FILTER (WHERE first) AS visitors
    FROM (
        SELECT pair.visitor, pair.hits, pair.first IS NULL AS first, {columns}
        FROM (
            SELECT
                h.dimensions_id, h.visitor, sum(h.hits) AS hits,
                CASE WHEN h.visitor IS NOT NULL THEN
                    nullif(first_value(h.dimensions_id) OVER (PARTITION BY h.visitor), h.dimensions_id)
                END AS first
            {hits}
            GROUP BY 1, 2
        ) AS pair
        JOIN counters_dimensionset AS d ON d.id = pair.dimensions_id AND d.seen >= {since}
        LEFT JOIN counters_dimensionset AS f ON f.id = pair.first AND f.seen >= {since}
    ) AS seen
    GROUP BY GROUPING SETS ({sets})
) AS valued
GROUP BY 1, 2
