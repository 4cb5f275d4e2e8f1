-- Make room for what a reset has seen: each counter's hits (hour NULL) and each of its hour buckets'.
CREATE TEMPORARY TABLE reset_seen (counter_id uuid NOT NULL, hour timestamptz, hits bigint NOT NULL) ON COMMIT DROP
