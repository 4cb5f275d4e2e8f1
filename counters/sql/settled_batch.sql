-- The answer that was due for a batch which has committed.
SELECT totals FROM counters_batchledger WHERE writer = %(writer)s AND batch = %(batch)s
