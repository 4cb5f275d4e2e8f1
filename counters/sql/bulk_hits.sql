-- Keep the hits of a load as hit rows.
INSERT INTO counters_hit (at, counter_id, hits, dimensions_id, visitor)
SELECT at, counter_id, hits, dimensions_id, visitor FROM bulk_hits
