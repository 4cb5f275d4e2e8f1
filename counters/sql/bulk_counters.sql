-- Add the hits of a load to their counters, in the order of the keys, in which every batch locks them.
-- Lists are joined by line feeds: ids and paths of the load.
INSERT INTO counters_counter AS c (id, path, hits, first_hit, last_hit)
SELECT h.counter_id, p.path, h.hits, h.first_hit, h.last_hit
FROM (
    SELECT counter_id, sum(hits) AS hits, min(at) AS first_hit, max(at) AS last_hit FROM bulk_hits GROUP BY 1
) AS h
JOIN unnest(
    string_to_array(%(ids)s::text, E'\n')::uuid[], string_to_array(%(paths)s::text, E'\n')
) AS p (id, path) ON p.id = h.counter_id
ORDER BY h.counter_id
ON CONFLICT (id) DO UPDATE SET
    hits = c.hits + excluded.hits,
    first_hit = least(c.first_hit, excluded.first_hit),
    last_hit = greatest(c.last_hit, excluded.last_hit)
