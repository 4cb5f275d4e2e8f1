-- Hold up new hits of the counters that are reset; in the order in which batches lock them, so that none deadlocks.
SELECT count(*) FROM (
    SELECT c.id FROM counters_counter AS c JOIN reset_seen AS s ON s.counter_id = c.id
    WHERE s.hour IS NULL
    ORDER BY c.id
    FOR UPDATE OF c
) AS locked
