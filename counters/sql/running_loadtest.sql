-- The load test that is under way: a session of this database holds the lock of its id. It may have a report already,
-- while the statistics are read again.
WITH held AS MATERIALIZED (
    SELECT classid::bigint << 32 | objid::bigint AS key
    FROM pg_locks
    WHERE locktype = 'advisory'
        AND objsubid = 1
        AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
SELECT *
FROM counters_loadtestrun
WHERE hashtextextended('counters load test ' || id, 0) IN (SELECT key FROM held)
ORDER BY started DESC
LIMIT 1
