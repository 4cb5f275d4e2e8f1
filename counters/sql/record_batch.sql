-- Count one batch: counters, hour buckets, hit rows and the ledger in one statement, which is one transaction.
-- $1 ids, $2 paths, $3 hits: lists joined by line feeds; $4 time; $5 hour; $6 method; $7 writer; $8 batch number.
-- The rows come sorted by id, so that batches which share paths lock them in the same order and never deadlock;
-- the final INSERT reads "counted" to its end first, so counters are locked before hour buckets in every batch.
WITH incoming AS MATERIALIZED (
    SELECT id::uuid AS id, path, hits::integer AS hits
    FROM unnest(
        string_to_array($1::text, E'\n'), string_to_array($2::text, E'\n'), string_to_array($3::text, E'\n')
    ) AS row (id, path, hits)
), counted AS (
    INSERT INTO counters_counter AS c (id, path, hits, first_hit, last_hit)
    SELECT id, path, hits, $4::timestamptz, $4::timestamptz FROM incoming
    ON CONFLICT (id) DO UPDATE SET
        hits = c.hits + excluded.hits,
        first_hit = least(c.first_hit, excluded.first_hit),
        last_hit = greatest(c.last_hit, excluded.last_hit)
    RETURNING c.id, c.hits
), hourly AS (
    INSERT INTO counters_hourlyhits AS h (counter_id, hour, hits)
    SELECT id, $5::timestamptz, hits FROM incoming
    ON CONFLICT (counter_id, hour) DO UPDATE SET hits = h.hits + excluded.hits
), kept AS (
    INSERT INTO counters_hit (at, counter_id, hits, method)
    SELECT $4::timestamptz, id, hits, $6::text FROM incoming
)
INSERT INTO counters_batchledger (writer, batch, at, totals)
SELECT $7::uuid, $8::bigint, $4::timestamptz, string_agg(hits::text, ' ' ORDER BY id) FROM counted
RETURNING totals
