-- Make the partition of one UTC day of the hit table, unless it is there.
-- LIKE and ATTACH, since CREATE … PARTITION OF would wait for every reader of the table and hold up every writer.
DO $$
BEGIN
    IF to_regclass({partition_name}) IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('counters_hit', 0));
        IF to_regclass({partition_name}) IS NULL THEN
            CREATE TABLE {partition} (LIKE counters_hit INCLUDING ALL);
            ALTER TABLE counters_hit ATTACH PARTITION {partition} FOR VALUES FROM ({start}) TO ({end});
        END IF;
    END IF;
END
$$
