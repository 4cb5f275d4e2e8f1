-- What a backup of this snapshot holds, and the snapshot's name, for pg_dump to read the same.
SELECT pg_export_snapshot(), count(*), coalesce(sum(hits), 0)::bigint FROM counters_counter
