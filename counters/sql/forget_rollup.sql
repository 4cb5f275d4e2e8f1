-- Add what is rolled up of one consumer on one day to what is rolled up of unknown ones.
WITH named AS (
    DELETE FROM counters_rollup
    WHERE dimension = 'consumer' AND grain IN ('day', 'hour') AND start >= %(start)s AND start < %(end)s
        AND value = %(consumer)s
    RETURNING *
)
INSERT INTO counters_rollup AS r (dimension, grain, start, value, bot, gap, hits, visitors)
SELECT dimension, grain, start, '', bot, gap, hits, visitors FROM named
ON CONFLICT (dimension, grain, start, value, bot, gap) DO UPDATE SET
    hits = r.hits + excluded.hits, visitors = r.visitors + excluded.visitors
