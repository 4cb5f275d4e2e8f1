-- Delete the hit rows of some counters, and note what the counters and their hour buckets held: all in one snapshot,
-- so that what goes balances, whatever is committed meanwhile. No counter is locked, however long this takes.
-- The hits of a path lie between its first and its last, so days before and after are not read.
WITH selected AS MATERIALIZED (
    SELECT id, hits, first_hit, last_hit FROM counters_counter WHERE id = ANY(%(ids)s::uuid[])
), removed AS (
    DELETE FROM counters_hit AS h USING selected AS s
    WHERE h.counter_id = s.id
        AND h.at BETWEEN (SELECT min(first_hit) FROM selected) AND (SELECT max(last_hit) FROM selected)
)
INSERT INTO reset_seen (counter_id, hour, hits)
SELECT id, NULL, hits FROM selected
UNION ALL
SELECT h.counter_id, h.hour, h.hits FROM counters_hourlyhits AS h JOIN selected AS s ON s.id = h.counter_id
