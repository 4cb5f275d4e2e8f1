-- Forget the batches of one writer that nobody can ask about any more: all before the one under way.
DELETE FROM counters_batchledger WHERE writer = $1::uuid AND batch < $2::bigint
