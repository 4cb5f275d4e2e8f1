-- Make room for the hits of one transaction; the session keeps the table for its next one, empty.
CREATE TEMPORARY TABLE IF NOT EXISTS bulk_hits (
    at timestamptz NOT NULL,
    counter_id uuid NOT NULL,
    hits integer NOT NULL,
    dimensions_id bigint NOT NULL,
    visitor bigint
) ON COMMIT DELETE ROWS
