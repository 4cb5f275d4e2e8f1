-- Delete the hit rows and the days of some counters, and note what the counters and their hour buckets held: all in one
-- snapshot, so that what goes balances, whatever is committed meanwhile. No counter is locked, however long this takes.
-- The hits of a path lie between its first and its last, so days before and after are not read.
-- Days whose hit rows are there are rolled up again (a trigger notes that they changed). Of the others, visitors cannot
-- be counted anew: what is rolled up of all paths stays as it is, and the day tells how many hits it has too many.
WITH selected AS MATERIALIZED (
    SELECT id, hits, first_hit, last_hit FROM counters_counter WHERE id = ANY(%(ids)s::uuid[])
), removed AS (
    DELETE FROM counters_hit AS h USING selected AS s
    WHERE h.counter_id = s.id
        AND h.at BETWEEN (SELECT min(first_hit) FROM selected) AND (SELECT max(last_hit) FROM selected)
), forgotten AS (
    DELETE FROM counters_dailyhits AS d USING selected AS s WHERE d.counter_id = s.id RETURNING d.day, d.hits
), told AS (
    UPDATE counters_rolledday AS r SET removed = r.removed + f.hits, rolled = now(), chained = false
    FROM (SELECT day, sum(hits) AS hits FROM forgotten GROUP BY day) AS f
    WHERE r.day = f.day AND r.day < (SELECT since FROM counters_retention WHERE what = 'hits')
)
INSERT INTO reset_seen (counter_id, hour, hits)
SELECT id, NULL, hits FROM selected
UNION ALL
SELECT h.counter_id, h.hour, h.hits FROM counters_hourlyhits AS h JOIN selected AS s ON s.id = h.counter_id
