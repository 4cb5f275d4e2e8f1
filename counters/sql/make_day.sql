-- Make the partition of one UTC day of the hit table, unless it is there.
-- Two sessions may need the day at once: the table's own lock, which ATTACH takes anyway, lets the second see the
-- partition of the first (an advisory lock would not make it look again).
-- LIKE and ATTACH, since CREATE … PARTITION OF would wait for every reader of the table and hold up every writer.
DO $$
BEGIN
    IF to_regclass({partition_name}) IS NULL THEN
        LOCK TABLE ONLY counters_hit IN SHARE UPDATE EXCLUSIVE MODE;
        IF to_regclass({partition_name}) IS NULL THEN
            CREATE TABLE {partition} (LIKE counters_hit INCLUDING ALL);
            ALTER TABLE counters_hit ATTACH PARTITION {partition} FOR VALUES FROM ({start}) TO ({end});
        END IF;
    END IF;
END
$$
