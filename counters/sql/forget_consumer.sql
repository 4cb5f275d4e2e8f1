-- Delete the hit rows that some counters have of some combinations of dimensions, from before a time, and note what goes
-- of the counters and their hour buckets. Days that are closed are rolled up again: a trigger notes that they changed.
WITH removed AS (
    DELETE FROM counters_hit AS h
    WHERE h.counter_id = ANY(%(ids)s::uuid[]) AND h.dimensions_id = ANY(%(sets)s::bigint[])
        AND h.at < %(before)s::timestamptz
    RETURNING h.counter_id, date_trunc('hour', h.at, 'UTC') AS hour, h.hits
)
INSERT INTO reset_seen (counter_id, hour, hits)
SELECT counter_id, hour, sum(hits) FROM removed GROUP BY GROUPING SETS ((counter_id), (counter_id, hour))
