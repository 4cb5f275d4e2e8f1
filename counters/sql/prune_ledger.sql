-- Forget what writers that are gone have left in the ledger.
DELETE FROM counters_batchledger WHERE at < $1::timestamptz
