-- Add the hits of a load to the hour buckets of their counters, which are locked already.
INSERT INTO counters_hourlyhits AS h (counter_id, hour, hits)
SELECT counter_id, date_trunc('hour', at, 'UTC'), sum(hits) FROM bulk_hits GROUP BY 1, 2 ORDER BY 1, 2
ON CONFLICT (counter_id, hour) DO UPDATE SET hits = h.hits + excluded.hits
