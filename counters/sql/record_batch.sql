-- Count one batch: counters, hour buckets, hit rows and the ledger in one statement, which is one transaction.
-- Lists are joined by line feeds. Per path: $1 ids, $2 paths, $3 hits. Per like hits: $4 ids of the path, $5 ids of the
-- dimensions, $6 visitors (empty: not identified), $7 how many. $8 dimensions that may be new, as JSON.
-- $9 time; $10 hour; $11 writer; $12 batch number.
-- The rows come sorted by id, so that batches which share paths lock them in the same order and never deadlock;
-- the final INSERT reads "counted" to its end first, so counters are locked before all else in every batch.
WITH incoming AS MATERIALIZED (
    SELECT id::uuid AS id, path, hits::integer AS hits
    FROM unnest(
        string_to_array($1::text, E'\n'), string_to_array($2::text, E'\n'), string_to_array($3::text, E'\n')
    ) AS row (id, path, hits)
), counted AS (
    INSERT INTO counters_counter AS c (id, path, hits, first_hit, last_hit)
    SELECT id, path, hits, $9::timestamptz, $9::timestamptz FROM incoming
    ON CONFLICT (id) DO UPDATE SET
        hits = c.hits + excluded.hits,
        first_hit = least(c.first_hit, excluded.first_hit),
        last_hit = greatest(c.last_hit, excluded.last_hit)
    RETURNING c.id, c.hits
), hourly AS (
    INSERT INTO counters_hourlyhits AS h (counter_id, hour, hits)
    SELECT id, $10::timestamptz, hits FROM incoming
    ON CONFLICT (counter_id, hour) DO UPDATE SET hits = h.hits + excluded.hits
), kept AS (
    INSERT INTO counters_hit (at, counter_id, hits, dimensions_id, visitor)
    SELECT $9::timestamptz, id::uuid, hits::integer, dimensions::bigint, visitor::bigint
    FROM unnest(
        string_to_array($4::text, E'\n'), string_to_array($5::text, E'\n'),
        string_to_array($6::text, E'\n', ''), string_to_array($7::text, E'\n')
    ) AS row (id, dimensions, visitor, hits)
), known AS (
    INSERT INTO counters_dimensionset AS d
        (id, seen, method, status, consumer, country, referrer, referrer_url, browser, os, device, bot, route)
    SELECT
        id, ($9::timestamptz AT TIME ZONE 'UTC')::date,
        method, status, consumer, country, referrer, referrer_url, browser, os, device, bot, route
    FROM json_to_recordset($8::json) AS row (
        id bigint, method text, status smallint, consumer text, country text, referrer text, referrer_url text,
        browser text, os text, device text, bot boolean, route text
    )
    ORDER BY id
    ON CONFLICT (id) DO UPDATE SET seen = excluded.seen, consumer = excluded.consumer WHERE d.seen < excluded.seen
)
INSERT INTO counters_batchledger (writer, batch, at, totals)
SELECT $11::uuid, $12::bigint, $9::timestamptz, string_agg(hits::text, ' ' ORDER BY id) FROM counted
RETURNING totals
