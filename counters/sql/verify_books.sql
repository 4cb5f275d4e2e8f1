-- Compare each path's counter with the sum of its hour buckets and of its hit rows, in one snapshot.
-- Every row says how many paths there are; if none differs, there is one row without an id.
WITH books AS MATERIALIZED (
    SELECT id, c.path, c.hits AS counter, h.hits AS hourly, k.hits AS kept
    FROM counters_counter AS c
    FULL JOIN (
        SELECT counter_id AS id, sum(hits)::bigint AS hits FROM counters_hourlyhits GROUP BY counter_id
    ) AS h USING (id)
    FULL JOIN (
        SELECT counter_id AS id, sum(hits)::bigint AS hits FROM counters_hit GROUP BY counter_id
    ) AS k USING (id)
)
SELECT checked.paths, b.id, b.path, b.counter, b.hourly, b.kept
FROM (SELECT count(*) AS paths FROM books) AS checked
LEFT JOIN books AS b
    ON coalesce(b.counter, 0) <> coalesce(b.hourly, 0) OR coalesce(b.counter, 0) <> coalesce(b.kept, 0)
ORDER BY b.path, b.id
