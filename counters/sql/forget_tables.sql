-- Make room for what goes: the hits of each counter (hour NULL) and of each of its hour buckets; and, by counter, which
-- are the first and the last that stay, and how many hits it had (total) when that was looked up.
CREATE TEMPORARY TABLE reset_seen (
    counter_id uuid NOT NULL, hour timestamptz, hits bigint NOT NULL,
    total bigint, first_hit timestamptz, last_hit timestamptz
) ON COMMIT DROP
