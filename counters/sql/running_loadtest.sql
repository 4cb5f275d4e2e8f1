-- The load test that is under way: it has no report yet, and a session of this database holds the lock of its id.
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
WHERE report IS NULL AND hashtextextended('counters load test ' || id, 0) IN (SELECT key FROM held)
ORDER BY started DESC
LIMIT 1
