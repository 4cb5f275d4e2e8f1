-- The next counters, in the order of their ids, that have hit rows of some combinations of dimensions.
SELECT DISTINCT counter_id FROM counters_hit
WHERE dimensions_id = ANY(%(sets)s::bigint[]) AND at < %(before)s::timestamptz AND counter_id > %(after)s
ORDER BY counter_id
LIMIT %(limit)s
