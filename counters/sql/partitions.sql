-- The days that have a partition of the hit table, by their partitions' names, and whether they are closed.
SELECT
    to_date(right(c.relname, 8), 'YYYYMMDD'),
    EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND t.tgname = 'counters_late')
FROM pg_inherits AS i
JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'counters_hit'::regclass
ORDER BY 1
