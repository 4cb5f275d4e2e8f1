-- How many bytes must be read to verify the books: counters, hours, days rolled up, and the days of the hit table.
SELECT coalesce(sum(pg_relation_size(relid)), 0)::bigint
FROM (
    SELECT relid FROM pg_partition_tree('counters_hit') WHERE isleaf
    UNION ALL
    SELECT unnest(ARRAY['counters_counter', 'counters_hourlyhits', 'counters_dailyhits']::regclass[])
) AS t (relid)
