-- The answer that was due for a batch which has committed.
SELECT totals FROM counters_batchledger WHERE writer = $1::uuid AND batch = $2::bigint
